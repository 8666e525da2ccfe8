"""The verbs: ``python -m remit_lit VERB --config A.yaml --config B.yaml --field=value``."""

import dataclasses
import importlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from jsonargparse import ArgumentParser, Namespace
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from remit_lit import __version__
from remit_lit.errors import ConfigError, DataError, NonFiniteError, Preempted

VERBS = {
    "fit": "mid-train a policy with a token-weighting strategy",
    "validate": "loss per source of a policy or checkpoint on the validation rows",
    "test": "the same, logged as test",
    "estimate": "memory, disk and time of a fit before it starts",
    "prepare": "text to packed rows",
    "score": "NLLs of a frozen model, as a column beside the rows",
    "select": "rows to train on by two such columns (MiniPLM), as a subset beside the rows",
    "posttrain": "a stage of post-training: SFT, DPO or RLVR",
    "agreement": "how near a model is to a reference on prepared rows: KL and top-1 agreement",
    "table": "methods by seeds: runs what is missing, and shows what was found with error bars",
    "evaluate": "a model on benchmarks, with the outcome of every item",
    "flywheel": "rounds of mid-training and post-training, each with the last RL-tuned model as the reference",
    "export": "a run's checkpoint to a Hugging Face directory",
    "convert": "a ZeRO checkpoint to one that any number of ranks can go on from",
}
# Verbs that are a function, whose parameters are the fields.
_FUNCTIONS = {
    "score": "remit_lit.data.scoring:score",
    "select": "remit_lit.data.subsets:select",
    "agreement": "remit_lit.evaluation.agreement:agreement",
    "posttrain": "remit_lit.posttraining.posttrain:posttrain",
    "evaluate": "remit_lit.evaluation.evaluate:evaluate",
    "export": "remit_lit.export:export",
    "convert": "remit_lit.checkpoints.convert:convert",
}
# Modules that come with an extra, by the extra's name.
_EXTRAS = dict.fromkeys(("lm_eval", "math_verify", "scipy"), "evaluation") | {"trl": "posttrain"}
_USER_ERRORS = (ConfigError, DataError, NonFiniteError)
# What jsonargparse says of every type that a value was tried as.
_NOISE = re.compile(
    r"\s*(Does not valid|Subtypes:|Errors:$|- Expected a <class '(None|str)|Given value( type|: [{N])|All fields are )"
)


Settings = TypeVar("Settings")


class Parser(ArgumentParser):
    """Says what is wrong without the usage text and the list of types tried that would hide it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        lines = [line for line in message.splitlines() if not _NOISE.match(line)]
        verb = self.prog.split()[-1] if self.prog.split()[-1] in VERBS else "VERB"
        key = re.match(r'Parser key "([\w.]+)"', message)
        field = f"--{key[1]}.help=CLASS" if key and "is not accepted" in message else "--help"
        raise ConfigError("\n".join([*lines, f"All fields are explained by: python -m remit_lit {verb} {field}"]))


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
    from remit_lit.ranks import global_rank

    # Lightning's launcher takes another exit code of a rank that it started for a crash, and kills rank 0 with it.
    if global_rank():
        raise SystemExit(0)
    print(f"preempted: {stop}", file=sys.stderr)
    raise SystemExit(stop.exit_code)


def _run(verb: str, arguments: list[str]) -> None:
    if verb in ("fit", "validate", "test"):
        from remit_lit.lightning_cli import run_trainer

        run_trainer([verb, *arguments])
    elif verb == "estimate":
        from remit_lit.lightning_cli import run_estimate

        run_estimate(arguments)
    elif verb == "prepare":
        _prepare(arguments)
    elif verb == "table":
        _table(arguments)
    elif verb == "flywheel":
        _flywheel(arguments)
    else:
        _call(verb, arguments)


def _parser(verb: str) -> Parser:
    parser = Parser(prog=f"remit_lit {verb}", description=VERBS[verb], parser_mode="omegaconf")
    parser.add_argument("--config", action="config", help="YAML file; several are merged, the last wins")
    return parser


def _parse(parser: Parser, arguments: list[str]) -> Namespace:
    config = parser.parse_args(arguments)
    refuse_unresolved(config)
    return config


def _prepare(arguments: list[str]) -> None:
    import remit_lit.lab.source  # noqa: F401  (so that configs find LabDocuments by its short name)
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


def _table(arguments: list[str]) -> None:
    from remit_lit.tables.settings import TableSettings
    from remit_lit.tables.table import make_table

    parser = _grid_parser("table", TableSettings)
    parser.add_argument("--run", type=bool, default=True, help="false shows what is there and runs nothing")
    values = parser.instantiate_classes(_parse(parser, _extended(arguments)))
    settings = _settings(TableSettings, values)
    output = make_table(settings, values.cells, values.jobs, run=values.run, dry_run=values.dry_run)
    print(f"table: {output}")


def _flywheel(arguments: list[str]) -> None:
    from remit_lit.flywheel.flywheel import turn
    from remit_lit.flywheel.settings import FlywheelSettings

    parser = _grid_parser("flywheel", FlywheelSettings)
    parser.add_argument("--rounds", type=int, default=2, help="at most; it stops where a round makes nothing better")
    values = parser.instantiate_classes(_parse(parser, _extended(arguments)))
    settings = _settings(FlywheelSettings, values)
    print(f"flywheel: {turn(settings, values.rounds, values.cells, values.jobs, dry_run=values.dry_run)}")


def _grid_parser(verb: str, settings: type) -> Parser:
    """Of the verbs that run many commands and keep what each made."""
    parser = _parser(verb)
    parser.add_class_arguments(settings)
    parser.add_argument("--extends", type=str | None, default=None, help="YAML file that this one is laid over")
    parser.add_argument("--cells", type=str, default="runs/cells", help="directory of the runs that tables share")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; they share the cores")
    parser.add_argument("--dry_run", type=bool, default=False, help="show the plan with estimates, and do nothing")
    return parser


def _extended(arguments: list[str]) -> list[str]:
    """The arguments, with the files that each config extends before it."""
    return [*(f"--config={base}" for path in config_files(arguments) for base in _bases(path)), *arguments]


def _bases(path: str, *seen: str) -> list[str]:
    """The files that a config extends, the first one first."""
    if path in seen:
        raise ConfigError(f"extends: {' -> '.join([*seen, path])} extend each other in a circle")
    try:
        content = OmegaConf.load(path)
    except (OSError, YAMLError):  # the parser says so better
        return []
    base = content.get("extends") if isinstance(content, DictConfig) else None
    return [] if base is None else [*_bases(base, *seen, path), base]


def _settings(kind: type[Settings], values: Namespace) -> Settings:
    """The settings among a verb's fields."""
    return kind(**{field.name: values[field.name] for field in dataclasses.fields(kind)})  # type: ignore[arg-type]


def _call(verb: str, arguments: list[str]) -> None:
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    module, name = _FUNCTIONS[verb].split(":")
    function = getattr(importlib.import_module(module), name)
    parser = _parser(verb)
    parser.add_function_arguments(function)
    values = parser.instantiate_classes(_parse(parser, arguments)).as_dict()
    values.pop("config", None)
    rank_zero_only(print)(f"{verb}: {function(**values)}")
