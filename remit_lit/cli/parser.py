"""The parser of every verb: its messages, its config files, and its settings."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

from jsonargparse import ArgumentParser, Namespace

from remit_lit.errors import ConfigError
from remit_lit.verbs import VERBS

# What jsonargparse says of every type that a value was tried as.
NOISE = re.compile(
    r"\s*(Does not valid|Subtypes:|Errors:$|- Expected a <class '(None|str)|Given value( type|: [{N])|All fields are )"
)


Settings = TypeVar("Settings")


class Parser(ArgumentParser):
    """Says what is wrong without the usage text and the list of types tried that would hide it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        lines = [line for line in message.splitlines() if not NOISE.match(line)]
        verb = self.prog.split()[-1] if self.prog.split()[-1] in VERBS else "VERB"
        key = re.match(r'Parser key "([\w.]+)"', message)
        field = f"--{key[1]}.help=CLASS" if key and "is not accepted" in message else "--help"
        raise ConfigError("\n".join([*lines, f"`python -m remit_lit {verb} {field}` explains every field"]))


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
