"""Names on a command line and in a config that stand for others: those that all verbs share, and those of files."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from remit_lit.configs import find_config
from remit_lit.errors import ConfigError
from remit_lit.verbs import VERBS

_ABSENT = object()


def shared_names(verb: str) -> tuple[str, ...]:
    """Those that stand for others of the verb's own; none of what is no verb."""
    return VERBS[verb].shared if verb in VERBS else ()


def with_found_configs(arguments: Sequence[str]) -> list[str]:
    """The arguments with the files that the names after ``--config`` stand for.

    Raises:
        ConfigError: there is no such file.
    """
    found, is_config = [], False
    for argument in arguments:
        if is_config:
            argument = find_config("config", argument)
        elif argument.startswith("--config="):
            argument = f"--config={find_config('config', argument.removeprefix('--config='))}"
        is_config = argument == "--config"
        found.append(argument)
    if is_config:
        raise ConfigError("config: no file was given; give --config=FILE")
    return found


def own_arguments(verb: str, arguments: Iterable[str]) -> list[str]:
    """A command line with the verb's own fields."""
    own, rest = [], iter(arguments)
    for argument in rest:
        name, given, value = argument.removeprefix("--").partition("=")
        plain = name.removesuffix("+")
        if argument.startswith("--") and plain in shared_names(verb):
            fields = VERBS[verb].own(plain, value if given else next(rest, ""))
            own += [f"--{field}{name.removeprefix(plain)}={its}" for field, its in fields.items()]
        else:
            own.append(argument)
    return own


def own_values(verb: str, values: Mapping[Any, Any]) -> dict[str, Any]:
    """A config's nested values with the verb's own fields.

    Raises:
        ConfigError: a field is there by both of its names.
    """
    own = dict(values)
    for name in shared_names(verb):
        found, without = _taken(own, name.split("."))
        if found is not _ABSENT:
            own = without
            for field, value in VERBS[verb].own(name, found).items():
                if _taken(own, field.split("."))[0] is not _ABSENT:
                    raise ConfigError(f"{name}: a config has {field} too, which is the same field; give one of them")
                own = _put(own, field.split("."), value)
    return own


def own_text(verb: str, text: str) -> str:
    """A config's YAML with the verb's own fields; as it is where it has these already, or is no mapping."""
    try:
        values = OmegaConf.to_container(OmegaConf.create(text))
    except (yaml.YAMLError, OmegaConfBaseException):
        return text
    own = own_values(verb, values) if isinstance(values, dict) else values
    return text if own == values else yaml.safe_dump(own, sort_keys=False)


def _taken(values: Any, path: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """The value at a path, and the values without it; what then holds nothing is left out."""
    if not isinstance(values, Mapping) or path[0] not in values:
        return _ABSENT, {}
    rest = {name: value for name, value in values.items() if name != path[0]}
    if len(path) == 1:
        return values[path[0]], rest
    found, inner = _taken(values[path[0]], path[1:])
    return found, {**rest, path[0]: inner} if inner else rest


def _put(values: Any, path: Sequence[str], value: Any) -> dict[str, Any]:
    """The values with another at a path."""
    below = dict(values) if isinstance(values, Mapping) else {}
    return {**below, path[0]: value if len(path) == 1 else _put(below.get(path[0]), path[1:], value)}
