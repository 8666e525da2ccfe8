"""``table``, ``figure`` and ``flywheel`` from a command line: verbs that run many commands and keep what each made."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from remit_lit.cli.job_fields import check_fields
from remit_lit.cli.launching import add_launcher
from remit_lit.cli.parser import Parser, config_files, parse, settings_of, verb_parser
from remit_lit.configs import find_config
from remit_lit.errors import ConfigError
from remit_lit.figures.figure import make_figure
from remit_lit.figures.settings import FigureSettings
from remit_lit.flywheel.flywheel import turn
from remit_lit.flywheel.settings import FlywheelSettings
from remit_lit.runs.lock import held
from remit_lit.tables.settings import TableSettings
from remit_lit.tables.table import make_table


def run_table(verb: str, arguments: Sequence[str]) -> None:
    """Make a table, or one after another all those that a config lists."""
    listed = _listed(arguments)
    if not listed:
        _make_one_table(verb, arguments)
    files = config_files(arguments)
    others = [a for a in arguments if a not in ("--config", *files) and not a.startswith("--config=")]
    for path in listed:
        _make_one_table(verb, [f"--config={path}", *others])


def _make_one_table(verb: str, arguments: Sequence[str]) -> None:
    parser = _study_parser(verb, TableSettings)
    parser.add_argument("--run", type=bool, default=True, help=_RUN_HELP)
    parser.add_argument("--tables", type=list[str] | None, default=None, help=_TABLES_HELP)
    values = parser.instantiate_classes(parse(parser, _extended(arguments)))
    if values.tables is not None:
        raise ConfigError("tables: got a list on the command line; give it in a YAML file of its own, by --config")
    settings = settings_of(TableSettings, values)
    with _writing(settings.output, dry_run=values.dry_run):
        output = make_table(settings, values.cells, values.jobs, run=values.run, **_common(values))
    print(f"table: {output}")


def run_figure(verb: str, arguments: Sequence[str]) -> None:
    """Draw a figure of a table's runs."""
    parser = _study_parser(verb, TableSettings)
    parser.add_class_arguments(FigureSettings, "figure")
    parser.add_argument("--run", type=bool, default=True, help=_RUN_HELP)
    values = parser.instantiate_classes(parse(parser, _rebased(arguments)))
    settings = settings_of(TableSettings, values)
    output = make_figure(settings, values.figure, values.cells, values.jobs, run=values.run, **_common(values))
    print(f"figure: {output}")


def run_flywheel(verb: str, arguments: Sequence[str]) -> None:
    """Turn a flywheel."""
    parser = _study_parser(verb, FlywheelSettings)
    parser.add_argument("--rounds", type=int, default=2, help="the most rounds to run; it stops earlier by the rule")
    values = parser.instantiate_classes(parse(parser, _extended(arguments)))
    settings = settings_of(FlywheelSettings, values)
    with _writing(settings.output, dry_run=values.dry_run):
        output = turn(settings, values.rounds, values.cells, values.jobs, **_common(values))
    print(f"flywheel: {output}")


def _common(values: Namespace) -> dict[str, Any]:
    if Path(values.cells).is_file():
        raise ConfigError(f"cells: got {values.cells!r}, which is a file; give a folder, which need not be there yet")
    slurm = values.slurm if values.launcher == "slurm" else None
    return {"dry_run": values.dry_run, "slurm": slurm, "check": check_fields}


def _writing(output: str, *, dry_run: bool) -> AbstractContextManager[object]:
    return nullcontext() if dry_run else held("output", output)


_RUN_HELP = "false shows the results so far and runs nothing"
_JOBS_HELP = "jobs at a time; null: one on this machine, which jobs share; on a cluster all that are ready"
_TABLES_HELP = "table files to make one after another; a YAML file with this field has no other"
_OF_ALL_TABLES = ("run", "cells", "jobs", "launcher", "slurm", "dry_run")


def _listed(arguments: Sequence[str]) -> list[str]:
    """The table files that the config lists under ``tables``; none where it is a table itself.

    Raises:
        ConfigError: there is no such file; or beside the list stands a field that one table alone can have.
    """
    contents = {path: _content(path) for path in config_files(arguments)}
    lists = [path for path, content in contents.items() if "tables" in content]
    if not lists:
        return []
    beside = sorted({name for content in contents.values() for name in content} - {"tables"})
    if beside or len(contents) > 1:
        raise ConfigError(
            f"tables: {lists[0]} lists tables, but beside them stand {', '.join(beside) or 'other files'}; give the "
            "list alone, in one file"
        )
    for argument in arguments:
        name = argument.removeprefix("--").split("=")[0]
        if argument.startswith("--") and name.split(".")[0] not in ("config", "help", *_OF_ALL_TABLES):
            shared = ", ".join(_OF_ALL_TABLES)
            raise ConfigError(f"{name}: {lists[0]} lists several tables, which share {shared} alone; set it in a table")
    return [find_config("tables", name) for name in contents[lists[0]]["tables"]]


def _content(path: str) -> dict[str, Any]:
    """What a config says; nothing where it cannot be read, which the parser says better."""
    try:
        content = OmegaConf.load(path)
    except (OSError, YAMLError):
        return {}
    return {str(name): value for name, value in content.items()} if isinstance(content, DictConfig) else {}


def _study_parser(verb: str, settings: type) -> Parser:
    parser = verb_parser(verb)
    parser.add_class_arguments(settings)
    parser.add_argument("--extends", type=str | None, default=None, help="YAML file that this one is laid over")
    parser.add_argument(
        "--cells", type=str, default="runs/cells", help="folder that keeps the jobs; tables and flywheels share it"
    )
    parser.add_argument("--jobs", type=int | None, default=None, help=_JOBS_HELP)
    add_launcher(parser, "the jobs")
    parser.add_argument(
        "--dry_run", type=bool, default=False, help="list the jobs with their estimated times, and run none"
    )
    return parser


def _extended(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the files that each config extends before it."""
    return [*(f"--config={base}" for path in config_files(arguments) for base in _bases(path)), *arguments]


def _rebased(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the files that the last config extends: one more puts another table under a figure."""
    bases = [_bases(path) for path in config_files(arguments)]
    last = next((found for found in reversed(bases) if found), [])
    return [*(f"--config={base}" for base in last), *arguments]


def _bases(path: str, *seen: str) -> list[str]:
    """The files that a config extends, the first one first."""
    if path in seen:
        raise ConfigError(f"extends: {' -> '.join([*seen, path])} extend each other in a circle")
    base = _content(path).get("extends")
    if base is None:
        return []
    found = find_config("extends", base)
    return [*_bases(found, *seen, path), found]
