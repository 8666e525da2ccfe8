"""Figures that pages quote from the committed tables, so that none is copied by hand.

``{{ table NAME }}`` stands for the table of ``experiments/tables/results/NAME/table.md``, and
``{{ difference NAME | METHOD | ROW }}`` for a method's difference to the baseline with its interval over runs.
"""

import re
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "experiments" / "tables" / "results"
_QUOTED = re.compile(r"\{\{ (table|difference) ([^|}]+?)(?: \| ([^|}]+) \| ([^|}]+))? \}\}")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put what is quoted in its place.

    Raises:
        ValueError: a table, method or row that is not there; names it.
    """
    return _QUOTED.sub(
        lambda found: _table(found[2]) if found[1] == "table" else difference(*found.groups()[1:]), markdown
    )


def _table(name: str) -> str:
    return "\n".join(line for line in _lines(name) if line.startswith("|"))


def difference(name: str, method: str, row: str) -> str:
    """Such as ``+3.72 [+3.62, +3.82]``."""
    text = (RESULTS / name / "table.md").read_text().replace("\\", "")
    for line in text.splitlines():
        cells = [cell.strip().replace("**", "") for cell in line.strip("|").split(" | ")]
        if cells[:2] == [method, row]:
            return f"{cells[2]} {cells[3]}".replace("[", "\\[")
    raise ValueError(f"{name}: no difference of {method!r} in {row!r}")


def _lines(name: str) -> list[str]:
    """Of the first table, without its title and notes."""
    text = (RESULTS / name / "table.md").read_text()
    return text[: text.index("\n- ")].splitlines()
