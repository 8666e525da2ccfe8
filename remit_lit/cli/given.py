"""What a command line gives: the values of its files and its own, and in which line of which file each stands."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from remit_lit.cli.names import own_values, shared_names
from remit_lit.configs import find_config
from remit_lit.errors import ConfigError
from remit_lit.verbs import VERBS

COMMAND_LINE = "the command line"


class Argument(str):
    """A value of the command line as it was typed, which may be text or a number."""


class Entry(NamedTuple):
    """A field as a source has it: its dotted name, its line counted from 1 (0: none), and a plain value's text."""

    path: str
    line: int
    text: str | None


@dataclass(frozen=True)
class Source:
    """A file, or one field of the command line.

    Attributes:
        name: of the file, or :data:`COMMAND_LINE`.
        values: nested as in the file. A field that adds to a list ends in ``+``.
        entries: its fields by their names as :func:`plain` gives them.
    """

    name: str
    values: dict[str, Any]
    entries: Mapping[str, Entry] = field(default_factory=dict)

    def place(self, path: str) -> str | None:
        """Where it sets a field, e.g. ``overlay.yaml:3``; None where it does not."""
        name = plain(path)
        below = (entry for other, entry in self.entries.items() if other.startswith((f"{name}.", f"{name}[")))
        entry = self.entries.get(name) or next(below, None)
        return None if entry is None else f"{self.name}:{entry.line}" if entry.line else self.name


def read_sources(arguments: Sequence[str], verb: str = "") -> list[Source]:
    """The sources of a command line, the last of which wins; a file's bases (``extends``) come before it.

    Files that cannot be read are left out: :func:`read_file` says of each what is wrong.

    Args:
        arguments: of the command line, with the verb's own fields.
        verb: by whose own fields files are read; empty: as they are.
    """
    sources: list[Source] = []
    for name, value in _fields(arguments):
        if name == "config":
            sources += (_by_own_names(verb, source) for source in _with_bases(value))
        elif name.split(".")[-1] not in ("help", "print_config"):
            sources.append(_argument(name, value))
    return sources


def read_file(path: str) -> Source:
    """A config file.

    Raises:
        ConfigError: it cannot be read, is no YAML, or has no fields: naming the file and the line.
    """
    try:
        root, content = _read(Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config: {path} cannot be read ({error}); give a YAML file") from error
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or error
        where = "" if mark is None else f":{mark.line + 1}"
        raise ConfigError(f"config: {path}{where} is not valid YAML ({problem})") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"config: {path} cannot be read ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict) or not isinstance(root, yaml.MappingNode | None):
        kind = "a list" if isinstance(content, list) else f"the value {root.value!r}"
        raise ConfigError(f"config: {path} holds {kind}; give a mapping of fields, such as `model: ...`")
    return Source(path, {str(name): value for name, value in content.items()}, _by_name(_entries(root)))


@cache  # of a command line, its mistakes and its bases are looked for in the same files
def _read(text: str) -> tuple[Any, Any]:
    root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return root, {} if root is None else OmegaConf.to_container(OmegaConf.create(text))


def merged(sources: Sequence[Source]) -> dict[str, Any]:
    """The values of all sources, nested; of a class that another replaces, the arguments are left out."""
    result: dict[str, Any] = {}
    for source in sources:
        result = _laid_over(result, source.values)
    return result


def located(message: str, sources: Sequence[Source], beside: str = "") -> str:
    """A message that begins with the name of a field, with the whole name and where the field is set.

    Args:
        message: of an error.
        sources: of the command line.
        beside: another field that the message is about: where it is set is said, too.
    """
    head, colon, rest = message.partition(":")
    if not colon or not re.fullmatch(r"[\w.\[\]]+", head):
        return message
    name = _whole_name(head, rest, sources)
    first, *more = rest.splitlines() or [""]
    lines = [f"{name}:{first}"]
    for said, path in (("set", name), (f"{beside} is set", beside)):
        if where := _places(path, sources):
            lines.append(f"  {said} {where}")
    return "\n".join([*lines, *more])


def _whole_name(head: str, rest: str, sources: Sequence[Source]) -> str:
    """The name of a field as the sources have it, with ``init_args``; as it came where they do not have it.

    Classes know only the last part of it: that is completed where just one field has the value that the rest of the
    message is about, or where they do not have the field itself, but just one that it is part of.
    """
    given = {name: entry for source in sources for name, entry in source.entries.items()}
    name = plain(re.sub(r"^[A-Z]\w*\.", "", head))  # of the class that says it
    if name in given:
        return max(head if plain(head) == name else "", given[name].path, key=len)  # either may leave out init_args
    alike = [
        other
        for other, entry in given.items()
        if other.endswith(f".{name}") and ("." in name if entry.text is None else _has_word(rest, entry.text))
    ]
    if len(alike) == 1:
        return given[alike[0]].path
    return _below_whole_name(head, given)


def _below_whole_name(head: str, given: Mapping[str, Entry]) -> str:
    """Of a field that the sources do not have: with the whole name of what it is part of."""
    parent = head.rpartition(".")[0].removesuffix(".init_args")
    while "." in parent and plain(parent) not in given:
        wholes = [entry.path for other, entry in given.items() if other.endswith(f".{plain(parent)}")]
        if len(wholes) == 1:
            return f"{wholes[0]}{head.removeprefix(parent)}"
        parent = parent.rpartition(".")[0]
    return head


def _places(path: str, sources: Sequence[Source]) -> str:
    """Where a field, or what it is part of, is set, with the places that set it before; empty where nothing does."""
    while not any(source.place(path) for source in sources):
        path = path.rpartition("[" if path.endswith("]") else ".")[0]
        if "." not in path:  # a whole section says nothing
            return ""
    places = list(dict.fromkeys(place for source in reversed(sources) if (place := source.place(path))))
    before = f", over {', '.join(places[1:])}" if places[1:] else ""
    return f"{'on' if places[0] == COMMAND_LINE else 'in'} {places[0]}{before}"


def plain(path: str) -> str:
    """A field's name without ``init_args``, which the command line may leave out, and ``class_path``."""
    return re.sub(r"\.(init_args|dict_kwargs|class_path)(?=\.|$)", "", path)


def _has_word(text: str, word: str) -> bool:
    return bool(word) and re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


def _fields(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    waiting = None
    for argument in arguments:
        if argument.startswith("--"):
            name, given, value = argument.removeprefix("--").partition("=")
            waiting = None if given else name
            if given:
                yield name, value
        elif waiting is not None:
            yield waiting, argument
            waiting = None


def _with_bases(path: str, *seen: str) -> list[Source]:
    try:
        source = read_file(path)
    except ConfigError:
        return []
    try:
        base = find_config("extends", str(source.values["extends"]))
    except (KeyError, ConfigError):
        return [source]
    return [*([] if base in (*seen, path) else _with_bases(base, *seen, path)), source]


def _by_own_names(verb: str, source: Source) -> Source:
    try:
        values = own_values(verb, source.values)
    except ConfigError:  # it is said before
        return source
    entries = dict(source.entries)
    for name in shared_names(verb):
        if name in entries:
            entry = entries.pop(name)
            entries |= {field: entry._replace(path=field) for field in VERBS[verb].own(name, entry.text)}
    return replace(source, values=values, entries=entries)


def _argument(name: str, typed: str) -> Source:
    try:
        # Its reader takes 1e-4 for a number, as that of the parser does.
        value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={typed}"]))["value"]  # type: ignore[call-overload, index]
    except (yaml.YAMLError, OmegaConfBaseException):
        value = typed
    values: Any = value if isinstance(value, (dict, list)) or typed == "null" else Argument(typed)
    for part in reversed(name.split(".")):
        values = {part: values}
    path = name.removesuffix("+")
    return Source(COMMAND_LINE, values, _by_name([Entry(path, 0, typed)]))


def _entries(node: Any, prefix: str = "") -> Iterator[Entry]:
    """The fields below a YAML node."""
    if isinstance(node, yaml.MappingNode):
        below = [(f"{prefix}.{key.value}".removeprefix("."), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        below = [(f"{prefix}[{index}]", value, value) for index, value in enumerate(node.value)]
    else:
        return
    for path, marked, value in below:
        yield Entry(path, marked.start_mark.line + 1, value.value if isinstance(value, yaml.ScalarNode) else None)
        yield from _entries(value, path)


def _by_name(entries: Iterable[Entry]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in entries:
        path = entry.path.removesuffix(".class_path")
        if path != entry.path or plain(path) not in found:
            found[plain(path)] = entry._replace(path=path)
    return found


def _laid_over(below: Any, above: Any) -> Any:
    if not isinstance(above, dict):
        return above
    if isinstance(below, str) and "class_path" not in above:
        below = {"class_path": str(below)}
    if not isinstance(below, dict) or above.get("class_path", below.get("class_path")) != below.get("class_path"):
        below = {}
    result = dict(below)
    for name, value in above.items():
        added = name.removesuffix("+")
        if added != name:
            here = result.get(added)
            more = value if isinstance(value, list) else [value]
            result[added] = [*(here if isinstance(here, list) else []), *more]
        else:
            result[name] = _laid_over(result.get(name), value)
    return result
