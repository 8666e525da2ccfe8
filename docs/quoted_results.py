"""Figures that pages quote from the committed tables, so that none is copied by hand.

``{{ table NAME }}`` stands for the table of ``experiments/tables/results/NAME/table.md``,
``{{ difference NAME | METHOD | ROW }}`` for a method's difference to the baseline with its interval over runs,
``{{ paired NAME | METHOD | OTHER | ROW }}`` for that of two methods, from their runs, and
``{{ calibrated NAME }}`` for what ``recipes calibrate`` found of a table's runs. ``{{ figure NAME }}`` stands for one
of ``experiments/figures/results/NAME`` and its caption, with what the paper found and whether ours agrees.
"""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from remit_lit.evaluation.statistics import difference_over_seeds

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
RESULTS = EXPERIMENTS / "tables" / "results"
_QUOTED = re.compile(r"\{\{ (\w+) ([^}]+) \}\}")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put what is quoted in its place.

    Raises:
        ValueError: a table, method or row that is not there; names it.
    """
    return _QUOTED.sub(_quoted, markdown)


def _quoted(found: re.Match[str]) -> str:
    kinds: dict[str, Callable[..., str]] = {
        "table": _table,
        "difference": _difference,
        "paired": _paired,
        "calibrated": _calibrated,
        "figure": _figure,
    }
    return kinds[found[1]](*found[2].split(" | "))


def _table(name: str) -> str:
    text = (RESULTS / name / "table.md").read_text()
    return "\n".join(line for line in text[: text.index("\n- ")].splitlines() if line.startswith("|"))


def _calibrated(name: str) -> str:
    return (RESULTS / name / "calibrated.md").read_text().strip()


def _figure(name: str) -> str:
    caption = (EXPERIMENTS / "figures" / "results" / name / "caption.md").read_text()
    return caption.split("\n", 1)[1].strip().replace("](", f"](figures/{name}/")


def _difference(name: str, method: str, row: str) -> str:
    text = (RESULTS / name / "table.md").read_text().replace("\\", "")
    for line in text.splitlines():
        cells = [cell.strip().replace("**", "") for cell in line.strip("|").split(" | ")]
        if cells[:2] == [method, row]:
            return f"{cells[2]} {cells[3]}".replace("[", "\\[")
    raise ValueError(f"{name}: no difference of {method!r} in {row!r}")


def _paired(name: str, method: str, other: str, row: str) -> str:
    values: dict[str, dict[str, float]] = {method: {}, other: {}}
    with (RESULTS / name / "seeds.csv").open() as file:
        for line in csv.DictReader(file):
            if line["row_title"] == row and line["column_title"] in values and line["value"]:
                values[line["column_title"]][line["seed"]] = float(line["value"])
    if not values[method] or values[method].keys() != values[other].keys():
        raise ValueError(f"{name}: no runs of {method!r} and {other!r} in {row!r} to pair")
    found = difference_over_seeds(*(np.array(list(runs.values())) for runs in values.values()))
    return f"{found.mean:+.2f} \\[{found.low:+.2f}, {found.high:+.2f}]"
