"""A table as CSV for other programs: one line a cell with every number, and one line a seed; in the units shown."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from remit_lit.evaluation.statistics import Interval
from remit_lit.tables.summary import Cell, Difference, Summary


def cells_csv(summary: Summary) -> str:
    """One line for each row and column. A field is empty where there is no such number."""
    return _csv(
        {**_place(summary, row, column), **_cell(cell), **_difference(cell.difference), **_rest(cell)}
        for (row, column), cell in summary.cells.items()
    )


def seeds_csv(summary: Summary) -> str:
    """One line for each row, column and seed, with its value or the reason why it is missing."""
    return _csv(
        {
            **_place(summary, row, column),
            "seed": seed,
            **summary.contents.varied.get(seed, {}),
            "value": cell.values.get(seed),
            "n_items": cell.n_items if seed in cell.values else None,
            "missing": cell.missing.get(seed),
            "censored": cell.censored.get(seed),
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
        "bound": cell.bound,
        "n_seeds": len(cell.values),
        "n_seeds_planned": cell.planned,
        "n_items": cell.n_items or None,
    }


def _difference(difference: Difference | None) -> dict[str, Any]:
    by_seed, by_item = (difference.over_seeds, difference.over_items) if difference else (None, None)
    return {
        "diff": difference.mean if difference else None,
        **_bounds("diff_", by_seed),
        **_bounds("diff_items_", by_item),
        **_bounds("diff_blocks_", difference.over_blocks if difference else None),
        "diff_n_seeds": difference.n_seeds if difference else None,
        "p_over": None if difference is None or difference.p_value is None else "seeds" if by_seed else "items",
        "p": difference.p_value if difference else None,
        "p_holm": difference.p_holm if difference else None,
        "comparison": None if difference is None else "primary" if difference.primary else "secondary",
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
