"""The first field of a command line that cannot be right: where it is, what it got and what would be right.

The parser says whether a command line is right. Where it is not, its message speaks of the types that were tried; this
walks the same fields again to name the one at fault. What it finds no fault with is left to the parser's message.
"""

import argparse
import dataclasses
import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from jsonargparse import ArgumentParser

from remit_lit.cli.class_paths import is_dotted, load_class
from remit_lit.cli.given import Argument
from remit_lit.errors import did_you_mean

_SPEC = ("class_path", "init_args", "dict_kwargs")
_NO_FIELDS = ("help", "config", "print_config", "print_shtab", argparse.SUPPRESS)
_MOST_NAMES = 16
_PLAIN = {int, float, bool}
_NO_CLASSES = _PLAIN | {str, complex, bytes, list, dict, tuple, set, type(None), object, Any}


def _is_no_field(dest: str) -> bool:
    """Whether it is one of the command line only; a model's ``config`` is a field."""
    return dest in _NO_FIELDS or dest.endswith(".help")


class Mistake(NamedTuple):
    """A field that cannot be right.

    Attributes:
        path: the field's dotted name.
        message: what it got and what would be right.
        is_class: it is about a class path.
        help: the option that explains the fields beside it.
    """

    path: str
    message: str
    is_class: bool = False
    help: str = "help"


def find_mistakes(parser: argparse.ArgumentParser, values: Mapping[str, Any], verb: str) -> Iterator[Mistake]:
    """The mistakes among the values of a command line, one after the other; see :class:`Mistake`.

    Args:
        parser: of the verb.
        values: nested, as :func:`remit_lit.cli.given.merged` gives them.
        verb: whose fields they are.
    """
    options = {action.dest for action in parser._actions}
    for mistake in _Walk().fields(parser, "", values, verb):
        yield mistake if mistake.help.split("=")[0] in options else mistake._replace(help="help")


class _Walk:
    def fields(
        self, parser: argparse.ArgumentParser, prefix: str, values: Mapping[str, Any], owner: str, group: str = ""
    ) -> Iterator[Mistake]:
        """Mistakes among values by field; ``group`` is the part of the parser's names that they lie below."""
        known = {action.dest: action for action in parser._actions if not _is_no_field(action.dest)}
        for key, value in values.items():
            name = f"{group}{key}".removesuffix("+")
            path = f"{prefix}.{key}".removeprefix(".").removesuffix("+")
            inner = any(dest.startswith(f"{name}.") for dest in known)
            action = known.get(name)
            hint = getattr(action, "_typehint", None) or getattr(action, "type", None)
            if inner and isinstance(value, Mapping):
                yield from self.fields(parser, path, value, owner, f"{name}.")
            elif inner and value is not None:
                if not (isinstance(value, str) and Path(value).is_file()):
                    yield Mistake(path, f"got {_short(value)}; give a mapping of {_listed(_level(known, name))}")
            elif action is not None:
                if hint is not None and not isinstance(action, argparse._StoreAction):
                    yield from self.value(path, value, hint)
                elif hint is not None and value is not None:
                    yield from self.leaf(path, value, hint)
            elif "." not in key:
                yield self.unknown(path, key, known, owner, group)

    def unknown(self, path: str, key: str, known: Mapping[str, Any], owner: str, group: str) -> Mistake:
        """What to say of a field that is not there: the name meant, or where such a field is."""
        here = _level(known, group.removesuffix("."))
        near = did_you_mean(key, here)
        if not near:
            elsewhere = [name for name in known if name.split(".")[-1] == key.removesuffix("+")]
            near = f"did you mean {elsewhere[0]}? " if len(elsewhere) == 1 else ""
        listed = f"its fields are {_listed(here)}" if len(here) <= _MOST_NAMES or not near else "give one of its fields"
        return Mistake(path, f"{group.removesuffix('.') or owner} has no field {key!r}; {near}{listed}")

    def value(self, path: str, value: Any, hint: Any) -> Iterator[Mistake]:
        """Mistakes in a value of a type."""
        options = _options(hint)
        if value is None or (isinstance(value, str) and "${" in value):
            if value is None and options and not any(option in (type(None), Any, object) for option in options):
                yield Mistake(path, f"got null; give {_in_words(hint)}")
            return
        classes = tuple(option for kind in options for option in _classes(kind))
        if isinstance(value, Mapping):
            mapping = next((kind for kind in options if get_origin(kind) in (dict, Mapping)), None)
            if mapping is not None and (not classes or "class_path" not in value):
                for name, item in value.items():
                    yield from self.value(f"{path}.{name}", item, get_args(mapping)[1])
            elif classes:
                yield from self.spec(path, value, classes, _skipped(options))
            else:
                yield from self.leaf(path, value, hint)
        elif isinstance(value, list) and any(_items(kind) is not None for kind in options):
            item = next(_items(kind) for kind in options if _items(kind) is not None)
            for number, one in enumerate(value):
                yield from self.value(f"{path}[{number}]", one, item)
        elif (
            isinstance(value, str) and classes and str not in options and (_is_name(value) or not _PLAIN & set(options))
        ):
            yield from self.spec(path, {"class_path": str(value)}, classes, _skipped(options))
        else:
            yield from self.leaf(path, value, hint)

    def spec(
        self, path: str, value: Mapping[str, Any], bases: tuple[type, ...], skip: set[str | int]
    ) -> Iterator[Mistake]:
        """Mistakes in a class and its arguments; without a class path, in those of the only class that it can be."""
        given = {key: item for key, item in value.items() if key not in _SPEC}
        arguments = (
            # Without init_args a field is mostly of the command line, which is laid over files.
            {**(value.get("init_args") or {}), **given} if isinstance(value.get("init_args"), dict | None) else {}
        )
        class_path = value.get("class_path")
        if class_path is None:
            closed = [base for base in bases if dataclasses.is_dataclass(base) and not inspect.isabstract(base)]
            if len(bases) == 1 and closed:
                yield from self.fields(_parser_of(closed[0], skip), path, value, closed[0].__name__)
                yield from _missing(closed[0], path, value, skip)
            return
        known = _subclasses(bases)
        if not isinstance(class_path, str) or not is_dotted(class_path):
            kind = known.get(str(class_path))
            base = " or ".join(base.__name__ for base in bases)
            if kind is None:
                own = f"or the dotted path of your own subclass of {base}, e.g. my_module.MyClass"
                near = did_you_mean(str(class_path), known)
                listed = (
                    f"give one of {', '.join(sorted(known))}, {own}" if len(known) <= _MOST_NAMES else f"give {own[3:]}"
                )
                yield Mistake(path, f"got {_short(class_path)}; {near}{listed}", is_class=True)
                return
        else:
            kind, wrong = load_class(class_path, bases)
            if wrong:
                yield Mistake(path, f"got {class_path!r}, but {wrong}", is_class=True)
                return
            if isinstance(kind, bases):
                return
        within = f"{path}.init_args" if "init_args" in value or not given else path
        within_class = self.fields(_parser_of(kind, skip), within, arguments, kind.__name__)
        for mistake in (*within_class, *_missing(kind, within, arguments, skip)):
            yield mistake._replace(help=f"{path}.help={kind.__name__}")

    def leaf(self, path: str, value: Any, hint: Any) -> Iterator[Mistake]:
        """A plain value that the parser does not take."""
        parser = ArgumentParser(exit_on_error=False, parser_mode="omegaconf")
        parser.add_argument("--value", type=hint)
        try:
            if isinstance(value, Argument):
                parser.parse_args([f"--value={value}"])
            else:
                parser.parse_object({"value": value})
        except Exception:  # of whatever kind: what matters is that it is refused
            yield Mistake(path, f"got {_short(value)}; give {_in_words(hint)}")


def _parser_of(kind: Any, skip: set[str | int]) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False, parser_mode="omegaconf")
    if inspect.isclass(kind):
        parser.add_class_arguments(kind, fail_untyped=False, skip=skip)
    else:
        parser.add_function_arguments(kind, fail_untyped=False, skip=skip)
    return parser


def _missing(kind: Any, path: str, given: Mapping[str, Any], skip: set[str | int]) -> Iterator[Mistake]:
    """The arguments without which a class cannot be made."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = [each for each in inspect.signature(kind).parameters.values() if each.kind in named]
    for parameter in parameters[sum(number for number in skip if isinstance(number, int)) :]:
        if parameter.default is inspect.Parameter.empty and parameter.name not in given:
            yield Mistake(f"{path}.{parameter.name}", f"missing; {kind.__name__} needs it")


def _level(known: Mapping[str, Any], group: str) -> list[str]:
    """The names that follow ``group`` in the parser's."""
    prefix = f"{group}." if group else ""
    below = (name.removeprefix(prefix).split(".")[0] for name in known if name.startswith(prefix))
    return list(dict.fromkeys(below))


def _options(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) is Annotated:
        return _options(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(option for each in get_args(hint) for option in _options(each))
    return (hint,)


def _classes(kind: Any) -> tuple[type, ...]:
    """The classes of which a type takes a subclass: itself, or what a callable of this type makes."""
    if get_origin(kind) in (Callable, _CALLABLE):
        return _classes(get_args(kind)[-1]) if get_args(kind) else ()
    return (kind,) if inspect.isclass(kind) and get_origin(kind) is None and kind not in _NO_CLASSES else ()


_CALLABLE = get_origin(Callable[[], None])


def _is_name(value: str) -> bool:
    """Whether a text is more likely the name of a class than a mistyped number."""
    return is_dotted(value) or (value.isidentifier() and value[:1].isupper())


def _skipped(options: Sequence[Any]) -> set[str | int]:
    """How many arguments the caller of a callable gives, which the config does not."""
    counts = {len(get_args(kind)[0]) for kind in options if get_origin(kind) is _CALLABLE and get_args(kind)}
    return set(counts)


def _items(kind: Any) -> Any:
    """The type of a list's items; None for another type."""
    origin = get_origin(kind)
    return get_args(kind)[0] if origin in (list, Sequence, Iterable) else None


def _subclasses(bases: Sequence[type]) -> dict[str, type]:
    """The public classes that have been imported and can be named by their last part."""
    found: dict[str, type] = {}
    waiting = list(bases)
    while waiting:
        kind = waiting.pop()
        waiting += type.__subclasses__(kind)
        hidden = any(part.startswith("_") for part in kind.__module__.split(".")) or "<locals>" in kind.__qualname__
        if not (hidden or kind.__name__.startswith("_") or inspect.isabstract(kind)):
            found.setdefault(kind.__name__, kind)
    return found


def _in_words(hint: Any) -> str:
    return " or ".join(dict.fromkeys(_word(option) for option in _options(hint)))


def _word(kind: Any) -> str:
    words = {
        int: "an integer (int)",
        float: "a number (float)",
        bool: "true or false",
        str: "text",
        type(None): "null",
        dict: "a mapping",
        list: "a list",
    }
    if kind in words:
        return words[kind]
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if _items(kind) is not None:
        return f"a list of which each item is {_in_words(_items(kind))}"
    if get_origin(kind) in (dict, Mapping):
        return f"a mapping of names to {_in_words(get_args(kind)[1])}"
    classes = _classes(kind)
    return f"a {classes[0].__name__}" if classes else str(kind)


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:_MOST_NAMES], *(["..."] if len(names) > _MOST_NAMES else [])])


def _short(value: Any) -> str:
    text = repr(str(value) if isinstance(value, Argument) else value)
    return text if len(text) <= 200 else f"{text[:200]}..."
