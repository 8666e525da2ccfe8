"""A table as CSV for other programs: one line a cell with every number, and one line a seed; in the units shown."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from remit_lit.evaluation.statistics import Interval
from remit_lit.tables.summary import Cell, Difference, Summary


def cells_csv(summary: Summary) -> str:
    """One line for each row and column. Empty: there is none. ``published`` is never mixed into ours."""
    return _csv(
        {**_place(summary, row, column), **_cell(cell), **_difference(cell.difference), **_rest(cell)}
        for (row, column), cell in summary.cells.items()
    )


def seeds_csv(summary: Summary) -> str:
    """One line for each row, column and seed, with its value or why there is none."""
    return _csv(
        {
            **_place(summary, row, column),
            "seed": seed,
            "value": cell.values.get(seed),
            "n_items": cell.n_items if seed in cell.values else None,
            "missing": cell.missing.get(seed),
        }
        for (row, column), cell in summary.cells.items()
        for seed in sorted({*cell.values, *cell.missing})
    )


def _place(summary: Summary, row: str, column: str) -> dict[str, Any]:
    contents = summary.contents
    return {
        "row": row,
        "column": column,
        "row_title": contents.rows[row].title,
        "column_title": contents.columns[column],
        "higher_is_better": summary.higher_is_better[row],
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "mean": cell.mean,
        **_bounds("", cell.interval),
        "interval_over": cell.over,
        "n_seeds": len(cell.values),
        "n_seeds_planned": cell.planned,
        "n_items": cell.n_items or None,
    }


def _difference(found: Difference | None) -> dict[str, Any]:
    by_seed, by_item = (found.over_seeds, found.over_items) if found else (None, None)
    return {
        "diff": found.mean if found else None,
        **_bounds("diff_", by_seed),
        **_bounds("diff_items_", by_item),
        "diff_n_seeds": found.n_seeds if found else None,
        "p_over": None if found is None or found.p_value is None else "seeds" if by_seed else "items",
        "p": found.p_value if found else None,
        "p_holm": found.p_holm if found else None,
    }


def _rest(cell: Cell) -> dict[str, Any]:
    missing = "; ".join(f"seed {seed}: {reason}" for seed, reason in cell.missing.items())
    return {"bold": cell.bold, "published": cell.published, "missing": missing}


def _bounds(prefix: str, interval: Interval | None) -> dict[str, float | None]:
    low, high = (interval.low, interval.high) if interval else (None, None)
    return {f"{prefix}low": low, f"{prefix}high": high}


def _csv(lines: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for line in lines:
        if writer is None:
            writer = csv.DictWriter(text, list(line), lineterminator="\n")
            writer.writeheader()
        writer.writerow(line)
    return text.getvalue()
