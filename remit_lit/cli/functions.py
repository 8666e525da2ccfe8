"""The parser of a verb whose fields are the parameters of a function."""

import importlib
from collections.abc import Callable
from typing import Any

from remit_lit.cli.launching import add_launcher
from remit_lit.cli.parser import Parser, verb_parser
from remit_lit.verbs import VERBS


def function_of(verb: str) -> Callable[..., Any]:
    """What a verb runs, imported."""
    module, name = VERBS[verb].function.split(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def function_parser(verb: str) -> Parser:
    """The parser of a verb that does not parse its command line itself."""
    parser = verb_parser(verb)
    parser.add_function_arguments(function_of(verb))
    if VERBS[verb].launches:
        add_launcher(parser, "it")
    return parser
