"""``report``: what runs logged and found, in one HTML file."""

from collections.abc import Sequence
from pathlib import Path

from remit_lit.files import write_whole
from remit_lit.pages.page import render
from remit_lit.report.contents import contents
from remit_lit.report.run import Changed, read_runs

_ASSETS = Path(__file__).parent / "page"
_SCRIPTS = ("panels.js", "tables.js", "main.js")


def write_report(runs: Sequence[str | Path], output: str | Path, changed: Changed) -> Path:
    """Read the runs' folders and write the page.

    Args:
        runs: folders of runs of ``fit`` or ``posttrain``, ended or not; several are overlaid.
        output: the file, which is replaced.
        changed: what tells the settings of a run that differ from their defaults.

    Returns:
        The file.

    Raises:
        ConfigError: see :func:`remit_lit.report.run.read_runs`.
    """
    found = read_runs(runs, changed)
    title = found[0].name if len(found) == 1 else f"{len(found)} runs"
    write_whole(Path(output), render(f"Report of {title}", contents(found), _ASSETS, _SCRIPTS))
    return Path(output)
