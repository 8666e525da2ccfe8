"""From configs and fields to values by dotted name, and the places that their strings leave open."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from omegaconf import OmegaConf
from yaml import YAMLError

from remit_lit.configs import find_config
from remit_lit.errors import ConfigError
from remit_lit.files import flatten
from remit_lit.verbs import Verb

Fields = dict[str, str | bool | int | float | list | dict | None]  # type: ignore[type-arg]
"""Fields of a verb as a YAML file says them. With ``Any`` for its values, jsonargparse would make an object of each
class_path there, which a job can neither compare nor write down."""


def leaves(configs: Iterable[str], fields: Mapping[str, Any], verb: Verb) -> dict[str, Any]:
    """Values by dotted name, each the verb's own; a later config's value replaces an earlier one's, and a field all.

    What replaces a whole section, or a value by a section, replaces all of it.

    Raises:
        ConfigError: there is no such file, or it is no YAML.
    """
    merged: dict[str, Any] = {}
    for given in (*(_read(path) for path in configs), fields):
        values = {own: its for name, value in given.items() for own, its in verb.own(name, value).items()}
        for name in values:
            for other in [other for other in merged if _overlap(name, other)]:
                del merged[other]
        merged |= values
    return merged


def _overlap(name: str, other: str) -> bool:
    return name != other and (other.startswith(f"{name}.") or name.startswith(f"{other}."))


@cache  # tables ask for the same few files hundreds of times
def _read(path: str) -> dict[str, Any]:
    file = find_config("configs", path)
    try:
        return dict(flatten(OmegaConf.to_container(OmegaConf.load(file))))
    except (OSError, YAMLError) as error:
        raise ConfigError(f"configs: {path} is no YAML file that can be read ({error})") from error


def fill(value: Any, places: Mapping[str, str]) -> Any:
    """``value`` with each ``{NAME}`` of its strings replaced; other braces stay as they are."""
    if isinstance(value, str):
        for name, place in places.items():
            value = value.replace("{" + name + "}", place)
        return value
    if isinstance(value, Mapping):
        return {key: fill(inner, places) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [fill(inner, places) for inner in value]
    return value


def strings(value: Any) -> Iterator[str]:
    """Every string in it, but for keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from strings(inner)
