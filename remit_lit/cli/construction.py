"""What a class of the config says when it refuses its arguments, with the field that names it."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from remit_lit.cli.class_paths import same_class
from remit_lit.cli.given import plain
from remit_lit.errors import ConfigError, DataError

DEBUG = "REMIT_LIT_TRACEBACK"
"""Name of the environment variable with which a mistake is shown with its traceback."""
_MADE = "_constructing"
_MOST_TEXT = 60


def watched(instantiators: Mapping[Any, Callable[..., Any]]) -> dict[Any, Callable[..., Any]]:
    """A parser's instantiators, and one for every other class, which note on an exception what was to be made."""
    return {**{key: _watched(make) for key, make in instantiators.items()}, (object, True): _watched(_make)}


def explained(error: BaseException, config: Mapping[str, Any]) -> ConfigError | None:
    """What to say of a constructor's exception; None where it is the program's own, which deserves its traceback.

    Args:
        error: with what :func:`watched` noted.
        config: as it was parsed, nested.
    """
    noted: tuple[Any, Mapping[str, Any]] | None = vars(error).pop(_MADE, None)  # once is enough
    if noted is None:
        return None
    made, arguments = noted
    place = next(_places(config, made, arguments), None)
    if isinstance(error, (ConfigError, DataError)):
        return None if place is None else ConfigError(_full(str(error), place, inspect.signature(made).parameters))
    if made.__module__.split(".")[0] == __name__.split(".")[0]:
        return None
    given = ", ".join(f"{name}={_short(value)}" for name, value in arguments.items())
    field = place[0] if place else "config"
    return ConfigError(
        f"{field}: {made.__module__}.{made.__qualname__}({given}) raised {type(error).__name__}: {error}; change its "
        f"arguments, or the class ({DEBUG}=1 shows the traceback)"
    )


def _make(made: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return made(*args, **kwargs)


def _watched(make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make, assigned=(), updated=())  # the parser looks at the signature
    def construct(made: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return make(made, *args, **kwargs)
        except Exception as error:
            if not hasattr(error, _MADE):  # else it is of an argument that was made inside
                setattr(error, _MADE, (made, kwargs))
            raise

    return construct


def _places(config: Any, made: Any, arguments: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Where the config has a class with these arguments: the class's own field, and what its arguments lie below."""
    if isinstance(config, Mapping):
        inner = config.get("init_args") if "class_path" in config else config
        if isinstance(inner, Mapping) and (
            same_class(config["class_path"], made) if inner is not config else set(inner) == set(arguments)
        ):
            plain_ones = {name: value for name, value in inner.items() if _is_plain(value)}
            if all(arguments.get(name) == value or value != value for name, value in plain_ones.items()):
                yield path, path if inner is config else f"{path}.init_args"
        for name, value in config.items():
            yield from _places(value, made, arguments, f"{path}.{name}".removeprefix("."))
    elif isinstance(config, (list, tuple)):
        for index, value in enumerate(config):
            yield from _places(value, made, arguments, f"{path}[{index}]")


def _full(message: str, place: tuple[str, str], parameters: Mapping[str, Any]) -> str:
    """A class's message with the whole name of its field."""
    head, colon, rest = message.partition(":")
    parts = head.split(".")
    while parts and parts[0] not in parameters:
        parts.pop(0)
    if colon and parts:
        return f"{place[1]}.{'.'.join(parts)}:{rest}".removeprefix(".")
    return message if plain(message).startswith(plain(place[0])) else f"{place[0]}: {message}"


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}..."
