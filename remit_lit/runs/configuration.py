"""What objects were configured with, as plain data: how every stage's config is saved and compared on resume."""

import contextlib
import inspect
from dataclasses import fields, is_dataclass
from typing import Any, Self

from remit_lit.errors import ConfigError

_GIVEN = "_constructor_arguments"


class Configured:
    """Base of classes that a config names by ``class_path``: the constructor's arguments are kept as they were given.

    So a config can be saved whole, whatever a subclass makes of its arguments or calls them inside.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)
        # Where they do not bind, `__init__` says so better; unpickling passes none.
        with contextlib.suppress(TypeError):
            bound = _signature(cls).bind(*args, **kwargs)
            bound.apply_defaults()
            self.__dict__[_GIVEN] = dict(bound.arguments)
        return self


def configuration(value: Any) -> Any:
    """``value`` as plain data for YAML: plain dataclasses by field, other classes as class_path and init_args.

    Raises:
        ConfigError: the class of an object is neither a dataclass nor :class:`Configured`, and the object does not keep
            an argument of its constructor.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [configuration(item) for item in value]
    if isinstance(value, dict):
        return {name: configuration(item) for name, item in value.items()}
    if is_dataclass(value) and not isinstance(value, Configured):
        return {entry.name: configuration(getattr(value, entry.name)) for entry in fields(value)}
    kind = type(value)
    arguments = {name: configuration(argument) for name, argument in _arguments_of(value).items()}
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": arguments}


def _arguments_of(value: Any) -> dict[str, Any]:
    kept: dict[str, Any] | None = vars(value).get(_GIVEN)
    parameters = _signature(type(value)).parameters
    if kept is None:
        untold = [name for name in parameters if not hasattr(value, name)]
        if untold:
            raise ConfigError(
                f"{type(value).__name__}.{untold[0]}: the object does not keep this argument, so that the run's config "
                f"cannot be saved whole; derive the class from remit_lit.runs.configuration.Configured, or keep it as "
                f"self.{untold[0]}"
            )
        kept = {name: getattr(value, name) for name in parameters}
    spread = [name for name, parameter in parameters.items() if parameter.kind is inspect.Parameter.VAR_KEYWORD]
    more = {name: argument for several in spread for name, argument in kept.get(several, {}).items()}
    return {**{name: argument for name, argument in kept.items() if name not in spread}, **more}


def _signature(kind: type) -> inspect.Signature:
    """Of the constructor, without ``self``."""
    if kind.__init__ is object.__init__:  # type: ignore[misc]
        return inspect.Signature()
    signature = inspect.signature(kind.__init__)  # type: ignore[misc]
    return signature.replace(parameters=list(signature.parameters.values())[1:])
