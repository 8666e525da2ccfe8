"""``report`` from a command line: the runs' folders come without a field's name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from remit_lit.cli.parser import parse, verb_parser
from remit_lit.errors import ConfigError, DataError
from remit_lit.files import flatten
from remit_lit.report.report import write_report
from remit_lit.runs.folder import CONFIG, REPORT
from remit_lit.runs.lock import held


def run_report(verb: str, arguments: Sequence[str]) -> None:
    """Write the page, and print where it is."""
    parser = verb_parser(verb)
    parser.add_argument("runs", type=str, nargs="*", help="folders of runs of fit or posttrain; several are overlaid")
    parser.add_argument("--output", type=str | None, default=None, help=_OUTPUT_HELP)
    parser.add_argument("--overwrite", type=bool, default=False, help="replace output if it exists")
    values = parse(parser, arguments)
    runs: list[str] = values.runs or []
    output = _output(runs, values.output, overwrite=values.overwrite)
    with held("output", output):
        page = write_report(runs, output, changed_of)
    print(f"{verb}: {page}")


_OUTPUT_HELP = "HTML file to write; null is report.html, in the folder of one run, where it is replaced, or here"


def _output(runs: Sequence[str], given: str | None, *, overwrite: bool) -> Path:
    """The file to write.

    Raises:
        ConfigError: it exists, or is a directory.
    """
    if given is None and len(runs) == 1 and Path(runs[0]).is_dir():
        return Path(runs[0], REPORT)
    path = Path(given or REPORT)
    if path.is_dir():
        raise ConfigError(f"output: {path} is a directory; give a file, such as {path / REPORT}")
    if path.exists() and not overwrite:
        raise ConfigError(f"output: {path} exists; give another file, or --overwrite=true")
    return path


def changed_of(run: Path) -> dict[str, Any]:
    """The settings in a run's config that differ from their defaults, by dotted name.

    Raises:
        ConfigError: a field is not known, or what its verb needs is not installed.
        DataError: the file is damaged.
    """
    try:
        config = yaml.safe_load((run / CONFIG).read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{run / CONFIG} is damaged ({str(error).splitlines()[0]})") from error
    if not isinstance(config, dict) or not config:
        raise DataError(f"{run / CONFIG} is damaged (it has no fields)")
    return _of_posttrain(run / CONFIG) if "stage" in config else _of_fit(run / CONFIG)


def _of_fit(config: Path) -> dict[str, Any]:
    from remit_lit.cli.unrun import changed_settings  # only here: it imports all that trains

    return changed_settings(config)


def _of_posttrain(config: Path) -> dict[str, Any]:
    try:
        from remit_lit.posttraining.posttrain import posttrain
    except ImportError as error:
        raise ConfigError(f"pip install 'remit_lit[posttrain]' ({error})") from error
    parser = verb_parser("posttrain")
    parser.add_function_arguments(posttrain)
    return dict(flatten(yaml.safe_load(parser.dump(parse(parser, [f"--config={config}"]), skip_default=True)) or {}))
