"""``remit_lit VERB --config A.yaml --config B.yaml --field=value``, which is ``python -m remit_lit VERB ...``."""

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from remit_lit import __version__
from remit_lit.cli.construction import DEBUG
from remit_lit.cli.functions import function_of, function_parser
from remit_lit.cli.given import read_file
from remit_lit.cli.launching import launched
from remit_lit.cli.messages import explain
from remit_lit.cli.names import own_arguments, own_values, with_found_configs
from remit_lit.cli.parser import Parser, config_files, parse
from remit_lit.errors import Preempted, did_you_mean
from remit_lit.runs.folder import global_rank
from remit_lit.runs.lock import held
from remit_lit.runs.warning_signals import WARNINGS
from remit_lit.verbs import VERBS

_ALL = "--help=all"


def main(args: Sequence[str] | None = None) -> None:
    """Run one verb. A user's mistake ends with one message and exit code 2."""
    arguments = list(sys.argv[1:] if args is None else args)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return
    if arguments[0] == "--version":
        print(__version__)
        return
    verb = arguments[0]
    if verb not in VERBS:
        _fail(f"there is no verb {verb!r}; {did_you_mean(verb, VERBS)}the verbs are {', '.join(VERBS)}")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if not sys.stderr.isatty():
        # In a log file, a bar is a line for each of its steps.
        os.environ |= {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    rest = arguments[1:]
    Parser.explains_all = _ALL in rest
    try:
        rest = own_arguments(verb, with_found_configs([_plain(argument) for argument in rest]))
        for path in config_files(rest):
            own_values(verb, read_file(path).values)
        # Before the verb's imports, which are slow; other verbs end as the signal's default is.
        with WARNINGS.heard() if verb == "fit" else contextlib.nullcontext():
            _run(verb, rest)
    except Preempted as stop:
        _exit_preempted(stop)
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    except SystemExit as stop:
        if stop.code is None:  # as Lightning leaves on a signal: nobody said that this is success
            _exit_preempted(Preempted("the trainer was interrupted; --resume=true goes on from its last checkpoint"))
        raise
    except Exception as error:
        message = explain(error, verb, rest)
        if message is None or os.environ.get(DEBUG):
            raise
        _fail(message)


def _run(verb: str, arguments: list[str]) -> None:
    function = function_of(verb)
    if VERBS[verb].parses:
        function(verb, arguments)
        return
    parser = function_parser(verb)
    built = parser.instantiate_classes(parse(parser, arguments))
    if VERBS[verb].launches and launched(verb, arguments, built):
        return
    values = built.as_dict()
    values.pop("config", None)
    field = VERBS[verb].output or "output"
    with held(field, values[field]) if values.get(field) else contextlib.nullcontext():
        result = function(**values)
        if global_rank() == 0:
            print(f"{verb}: {result}")


def _plain(argument: str) -> str:
    """An argument as the parser knows it."""
    return {"--print_config": "--print_config=comments", _ALL: "--help"}.get(argument, argument)


def _usage() -> str:
    lines = [f"  {name:<12}{verb.purpose}" for name, verb in VERBS.items()]
    head = "usage: remit_lit VERB --config A.yaml [--config B.yaml] [--field=value]\n\nverbs:\n"
    tail = (
        "\n\n`python -m remit_lit VERB` does the same. Each verb explains its fields with --help (fit and estimate all "
        "of them with --help=all) and shows the merged config with --print_config. In every verb --model.path is the "
        "model that it works on, and --resume=true goes on where an interrupted command stopped."
    )
    return head + "\n".join(lines) + tail


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def _exit_preempted(stop: Preempted) -> NoReturn:
    # Lightning's launcher takes another exit code of a rank that it started for a crash, and kills rank 0 with it.
    if global_rank():
        raise SystemExit(0)
    print(f"preempted: {stop}", file=sys.stderr)
    raise SystemExit(stop.exit_code)
