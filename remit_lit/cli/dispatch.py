"""The verbs: ``python -m remit_lit VERB --config A.yaml --config B.yaml --field=value``."""

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from remit_lit import __version__
from remit_lit.cli.parser import _NOISE, _parse, _parser, _settings, config_files
from remit_lit.cli.studies import _flywheel, _table
from remit_lit.errors import ConfigError, DataError, NonFiniteError, Preempted
from remit_lit.verbs import _EXTRAS, _FUNCTIONS, VERBS

_USER_ERRORS = (ConfigError, DataError, NonFiniteError)


def main(args: Sequence[str] | None = None) -> None:
    """Run one verb. A user's mistake ends with one message and exit code 2."""
    arguments = list(sys.argv[1:] if args is None else args)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return
    if arguments[0] == "--version":
        print(__version__)
        return
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    verb, rest = arguments[0], [_with_comments(argument) for argument in arguments[1:]]
    if verb not in VERBS:
        _fail(f"no verb {verb!r}; give one of {', '.join(VERBS)}")
    if not sys.stderr.isatty():
        # In a log file, a bar is a line for each of its steps.
        os.environ |= {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    try:
        _run(verb, rest)
    except Preempted as stop:
        _exit_preempted(stop)
    except Exception as error:
        # A class that refuses its arguments does so inside jsonargparse, which wraps the error in its own.
        for cause in _chain(error):
            if isinstance(cause, ModuleNotFoundError) and cause.name in _EXTRAS:
                _fail(f"{cause.name} is not installed; pip install 'remit_lit[{_EXTRAS[cause.name]}]'")
            if isinstance(cause, _USER_ERRORS):
                _fail(f"{cause}{_unreadable(rest)}")
            if str(cause).startswith("Does not validate against any of the Union subtypes"):
                _fail("\n".join(line.strip(" -") for line in str(cause).splitlines()[1:] if not _NOISE.match(line)))
            if isinstance(cause, OmegaConfBaseException):
                _fail(f"config: {cause.full_key}: {str(cause).splitlines()[0]} (a file sees only its own fields)")
        raise


def _unreadable(arguments: Sequence[str]) -> str:
    """Names the config file that is no YAML, which jsonargparse's message does not."""
    for path in config_files(arguments):
        try:
            OmegaConf.load(path)
        except YAMLError as error:
            return f"\n{path}: {type(error).__name__}"
        except (OSError, OmegaConfBaseException):
            continue
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _with_comments(argument: str) -> str:
    return "--print_config=comments" if argument == "--print_config" else argument


def _usage() -> str:
    lines = [f"  {verb:<10}{purpose}" for verb, purpose in VERBS.items()]
    head = "usage: python -m remit_lit VERB --config A.yaml [--config B.yaml] [--field=value]\n\nverbs:\n"
    tail = "\n\nEach verb explains its fields with --help and shows the merged config with --print_config."
    return head + "\n".join(lines) + tail


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def _exit_preempted(stop: Preempted) -> NoReturn:
    from remit_lit.runs.folder import global_rank

    # Lightning's launcher takes another exit code of a rank that it started for a crash, and kills rank 0 with it.
    if global_rank():
        raise SystemExit(0)
    print(f"preempted: {stop}", file=sys.stderr)
    raise SystemExit(stop.exit_code)


def _run(verb: str, arguments: list[str]) -> None:
    if verb in ("fit", "validate", "test"):
        from remit_lit.cli.training import run_trainer

        run_trainer([verb, *arguments])
    elif verb == "estimate":
        from remit_lit.cli.training import run_estimate

        run_estimate(arguments)
    elif verb == "prepare":
        _prepare(arguments)
    elif verb == "table":
        _table(arguments)
    elif verb == "flywheel":
        _flywheel(arguments)
    else:
        _call(verb, arguments)


def _prepare(arguments: list[str]) -> None:
    import remit_lit.data.lab_documents  # noqa: F401  (so that configs find LabDocuments by its short name)
    from remit_lit.data.manifest import read_manifest
    from remit_lit.data.prepare import prepare
    from remit_lit.data.settings import PrepareSettings

    parser = _parser("prepare")
    parser.add_argument("--output", type=str, required=True, help="directory of the rows")
    parser.add_argument("--overwrite", type=bool, default=False, help="replace the directory if it exists")
    parser.add_class_arguments(PrepareSettings)
    values = parser.instantiate_classes(_parse(parser, arguments))
    rows = prepare(Path(values.output), _settings(PrepareSettings, values), overwrite=values.overwrite)
    print("\n".join([*read_manifest(rows).summary(), f"rows: {rows}"]))


def _call(verb: str, arguments: list[str]) -> None:
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    module, name = _FUNCTIONS[verb].split(":")
    function = getattr(importlib.import_module(module), name)
    parser = _parser(verb)
    parser.add_function_arguments(function)
    values = parser.instantiate_classes(_parse(parser, arguments)).as_dict()
    values.pop("config", None)
    rank_zero_only(print)(f"{verb}: {function(**values)}")
