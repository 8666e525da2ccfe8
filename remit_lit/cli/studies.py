"""``table`` and ``flywheel`` from a command line: verbs that run many commands and keep what each made."""

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from remit_lit.cli.parser import Parser, config_files, parse, settings_of, verb_parser
from remit_lit.configs import find_config
from remit_lit.errors import ConfigError
from remit_lit.flywheel.flywheel import turn
from remit_lit.flywheel.settings import FlywheelSettings
from remit_lit.tables.settings import TableSettings
from remit_lit.tables.table import make_table


def run_table(verb: str, arguments: Sequence[str]) -> None:
    """Make a table."""
    parser = _study_parser(verb, TableSettings)
    parser.add_argument("--run", type=bool, default=True, help="false shows the results so far and runs nothing")
    values = parser.instantiate_classes(parse(parser, _extended(arguments)))
    settings = settings_of(TableSettings, values)
    output = make_table(settings, values.cells, values.jobs, run=values.run, dry_run=values.dry_run)
    print(f"table: {output}")


def run_flywheel(verb: str, arguments: Sequence[str]) -> None:
    """Turn a flywheel."""
    parser = _study_parser(verb, FlywheelSettings)
    parser.add_argument(
        "--rounds", type=int, default=2, help="at most so many; it stops after a round that improves nothing"
    )
    values = parser.instantiate_classes(parse(parser, _extended(arguments)))
    settings = settings_of(FlywheelSettings, values)
    print(f"flywheel: {turn(settings, values.rounds, values.cells, values.jobs, dry_run=values.dry_run)}")


def _study_parser(verb: str, settings: type) -> Parser:
    parser = verb_parser(verb)
    parser.add_class_arguments(settings)
    parser.add_argument("--extends", type=str | None, default=None, help="YAML file that this one is laid over")
    parser.add_argument("--cells", type=str, default="runs/cells", help="directory of the jobs that studies share")
    parser.add_argument("--jobs", type=int, default=1, help="jobs at a time; they share the machine's cores")
    parser.add_argument("--dry_run", type=bool, default=False, help="show the plan with estimates, and run nothing")
    return parser


def _extended(arguments: Sequence[str]) -> list[str]:
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
    if base is None:
        return []
    found = find_config("extends", base)
    return [*_bases(found, *seen, path), found]
