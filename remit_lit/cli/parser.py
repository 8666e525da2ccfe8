"""The parser of every verb: its messages, its config files, and its settings."""

import argparse
import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NoReturn, TypeVar

from jsonargparse import ArgumentParser, Namespace

from remit_lit.cli.class_paths import OWN_PACKAGES, guarded, is_dotted
from remit_lit.cli.common_fields import COMMON_FIELDS
from remit_lit.cli.construction import explained, watched
from remit_lit.cli.given import Source, merged, read_sources
from remit_lit.cli.mistakes import Mistake, find_mistakes
from remit_lit.cli.names import own_text
from remit_lit.cli.overlays import experiment_wanted
from remit_lit.errors import ConfigError
from remit_lit.jobs.fields import strings
from remit_lit.verbs import VERBS

# What jsonargparse says of every type that a value was tried as.
NOISE = re.compile(
    r"\s*(Does not valid|Subtypes:|Errors:$|- Expected a <class '(None|str)|Given value( type|: [{N])|All fields are )"
)
# What it says of the command line's form, in our words.
_REWORDED = (
    (r"unrecognized arguments: (--([^\s=]+).*)", r"\2: there is no such field; got \1"),
    (r"unrecognized arguments: ((\S+).*)", r"config: got \1 without a field's name; did you mean --config=\2?"),
    (r"argument --?(\S+): expected (one argument|at least one argument)", r"\1: got no value; give --\1=VALUE"),
    (r"argument (\S+) --> (\S+): .*", r"\2: follows from \1; set that instead"),
    (r"the following arguments are required: ([^\s,]+)(.*)", r"\1\2: missing; give --\1=VALUE, or set it in a config"),
)

Settings = TypeVar("Settings")


class Parser(ArgumentParser):
    """Says what is wrong without the usage text and the list of types tried that would hide it.

    Attributes:
        explains_all: ``--help`` shows every field, and not only :data:`COMMON_FIELDS`.
    """

    explains_all: ClassVar[bool] = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """The fields of a command line.

        Raises:
            ConfigError: naming the field at fault, what it got, what would be right, and where it is set.
        """
        if args is None or self._is_inner:
            return super().parse_args(args, *rest, **kwargs)
        sources = read_sources(args, _verb_of(self._with_fields))
        with guarded():
            self._refuse_classes(sources)
            try:
                return super().parse_args(args, *rest, **kwargs)
            except ConfigError as error:
                mistake = next(self._mistakes(sources), None)
                said = f"{error}{experiment_wanted(str(error), sources)}" if mistake is None else self._said(mistake)
                raise ConfigError(said) from error

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """The fields of a config file's text, by the verb's own names."""
        return super().parse_string(own_text(_verb_of(self), content), *args, **kwargs)

    def instantiate(self, namespace: Namespace, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """The objects that a config describes.

        Raises:
            ConfigError: a class refuses its arguments; names its field.
        """
        try:
            return super().instantiate(namespace, *args, **kwargs)
        except Exception as error:
            if self._is_inner:
                raise
            found = (explained(cause, namespace.as_dict()) for cause in causes(error))
            explanation = next((each for each in found if each is not None), None)
            if explanation is None:
                raise
            raise explanation from error

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        for pattern, words in _REWORDED:
            if found := re.fullmatch(pattern, message):
                raise ConfigError(found.expand(words).replace(f"{_verb_of(self._with_fields)}.", ""))
        lines = [line for line in message.splitlines() if not NOISE.match(line)]
        key = re.match(r'Parser key "([\w.]+)"', message)
        field = f"{key[1]}.help=CLASS" if key and "is not accepted" in message else "help"
        raise ConfigError("\n".join([*lines, self._hint(field)]))

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        common = COMMON_FIELDS.get(_verb_of(self))
        if common is None or self.explains_all or self._is_inner:
            return super().format_help(*args, **kwargs)
        kept = [(action, action.help) for action in self._actions]
        titles = [(group, group.description) for group in self._action_groups]
        for action, _ in kept:
            if action.dest.removesuffix(".help") not in common:
                action.help = argparse.SUPPRESS
        for group, _ in titles:
            if all(action.help == argparse.SUPPRESS for action in group._group_actions):
                group.description = None
        try:
            text = super().format_help(*args, **kwargs)
        finally:
            for action, words in kept:
                action.help = words
            for group, words in titles:
                group.description = words
        return f"{text}\nThese are the fields that most people set; --help=all explains every field.\n"

    @property
    def _is_inner(self) -> bool:
        """Whether it is jsonargparse's, for the arguments of a class."""
        return getattr(self, "_inner_parser", False)

    def _hint(self, field: str) -> str:
        verb = _verb_of(self._with_fields)
        whole = "help=all" if field == "help" and verb in COMMON_FIELDS else field
        return f"`python -m remit_lit {verb} --{whole}` explains every field"

    @property
    def _with_fields(self) -> argparse.ArgumentParser:
        """The parser that has the verb's fields: this one, or that of its only subcommand."""
        chosen = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return next(iter(chosen[0].choices.values())) if chosen else self

    def _mistakes(self, sources: Sequence[Source]) -> Iterator[Mistake]:
        parser = self._with_fields
        return find_mistakes(parser, merged(sources), _verb_of(parser))

    def _said(self, mistake: Mistake) -> str:
        return f"{mistake.path}: {mistake.message}\n{self._hint(mistake.help)}"

    def _refuse_classes(self, sources: Sequence[Source]) -> None:
        """Refuse class paths of other packages that cannot be right, before jsonargparse imports them."""
        for end, source in enumerate(sources, start=1):
            if any(is_dotted(text) and text.split(".")[0] not in OWN_PACKAGES for text in strings(source.values)):
                for mistake in self._mistakes(sources[:end]):
                    if mistake.is_class:
                        raise ConfigError(self._said(mistake))

    def _get_parser_instantiators(self) -> dict[Any, Any]:
        return watched(super()._get_parser_instantiators())


def _verb_of(parser: argparse.ArgumentParser) -> str:
    name = parser.prog.split()[-1]
    return name if name in VERBS else "VERB"


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def refuse_unresolved(config: Namespace) -> None:
    """Raise ConfigError for an interpolation that was given where nothing resolves it: on the command line."""
    for name, value in config.items():
        if isinstance(value, str) and "${" in value:
            raise ConfigError(f"{name}: got {value!r}; interpolation works inside a config file, give a plain value")


def config_files(arguments: Sequence[str]) -> list[str]:
    """The values of ``--config``, in order."""
    pairs = zip(arguments, (*arguments[1:], ""), strict=False)
    return [
        value if name == "--config" else name.removeprefix("--config=")
        for name, value in pairs
        if name.startswith("--config=") or name == "--config"
    ]


def verb_parser(verb: str) -> Parser:
    """The parser of a verb, with ``--config``; the caller adds the verb's fields."""
    parser = Parser(prog=f"remit_lit {verb}", description=VERBS[verb].purpose, parser_mode="omegaconf")
    parser.add_argument("--config", action="config", help="YAML file; several are merged, the last wins")
    return parser


def parse(parser: Parser, arguments: Sequence[str]) -> Namespace:
    """The fields of a command line. Raises ConfigError as :func:`refuse_unresolved` does."""
    config = parser.parse_args(list(arguments))
    refuse_unresolved(config)
    return config


def settings_of(kind: type[Settings], values: Namespace) -> Settings:
    """The settings among a verb's fields."""
    return kind(**{field.name: values[field.name] for field in dataclasses.fields(kind)})  # type: ignore[arg-type]
