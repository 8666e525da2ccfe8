"""``table`` and ``flywheel``: verbs that run many commands and keep what each made."""

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from remit_lit.cli.parser import Parser, _parse, _parser, _settings, config_files
from remit_lit.errors import ConfigError


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
