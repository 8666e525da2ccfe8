"""What a table says, in words that all formats share; each format only sets them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from remit_lit.evaluation.statistics import Interval
from remit_lit.tables.contents import Row
from remit_lit.tables.summary import SIGNIFICANT, Cell, Difference, Summary

PUBLISHED = "published"
"""The label that stands with every figure that is not ours."""

DIFFERENCE_HEADER = ("row", "difference", "95 % over seeds", "95 % over items", "seeds", "p", "p (Holm)")


class DifferenceLine(NamedTuple):
    """A line of the table of differences: its texts are those of :data:`DIFFERENCE_HEADER`."""

    column: str
    texts: tuple[str, ...]
    significant: bool


def row_title(summary: Summary, row: str) -> str:
    """The row's title with an arrow in the direction that is better."""
    arrow = {True: " ↑", False: " ↓", None: ""}[summary.higher_is_better[row]]
    return summary.contents.rows[row].title + arrow


def column_title(summary: Summary, column: str) -> str:
    title = summary.contents.columns[column]
    return f"{title} (baseline)" if column == summary.contents.baseline else title


def number(value: float, row: Row, *, sign: bool = False) -> str:
    text = f"{value:{'+' if sign else ''},.{row.decimals}f}"
    return text if any(digit in text for digit in "123456789") else text.lstrip("-+")


def figure(cell: Cell, row: Row) -> str:
    """Our figure: ``mean ± half-width`` over seeds, ``mean [low, high]`` over items, or in a word why it is missing."""
    if cell.mean is None:
        return ", ".join(sorted({reason.split(":")[0] for reason in cell.missing.values()})) or "not run"
    if cell.interval is None:
        return number(cell.mean, row)
    if cell.over == "seeds":
        return f"{number(cell.mean, row)} ± {number(cell.interval.high - cell.mean, row)}"
    return f"{number(cell.mean, row)} {_interval(cell.interval, row)}"


def remarks(cell: Cell) -> list[str]:
    """What a reader must know about the figure."""
    lines = ["items only"] if cell.over == "items" else []
    if cell.values and cell.missing:
        lines.append(f"{len(cell.values)} of {cell.planned} seeds")
    return lines


def published(cell: Cell, row: Row) -> str | None:
    """The published figure, with no fewer decimals than its source gives."""
    if cell.published is None:
        return None
    rounded = number(cell.published, row)
    return rounded if float(rounded.replace(",", "")) == cell.published else f"{cell.published:,}"


def differences(summary: Summary) -> list[DifferenceLine]:
    """A line for each difference from the baseline, column by column."""
    lines = []
    for column, title in summary.contents.columns.items():
        for name, row in summary.contents.rows.items():
            difference = summary.cells[name, column].difference
            if difference is not None:
                texts = (row_title(summary, name), *_difference_texts(difference, row))
                significant = difference.p_holm is not None and difference.p_holm < SIGNIFICANT
                lines.append(DifferenceLine(title, texts, significant))
    return lines


def _difference_texts(difference: Difference, row: Row) -> tuple[str, ...]:
    intervals = (difference.over_seeds, difference.over_items)
    return (
        number(difference.mean, row, sign=True),
        *("" if interval is None else _interval(interval, row, sign=True) for interval in intervals),
        str(difference.n_seeds),
        _p_value(difference.p_value),
        _p_value(difference.p_holm),
    )


def legend(summary: Summary, mark: str = "Bold") -> list[str]:
    """How the table is to be read, then why figures are missing, then the table's own notes.

    Args:
        summary: the table.
        mark: how the format marks a figure whose :attr:`Cell.bold` is true.
    """
    cells = summary.cells.values()
    overs = {cell.over for cell in cells}
    lines = []
    if "seeds" in overs:
        lines.append("Ours: mean over seeds ± half-width of its 95 % t interval: how much the choice of seeds matters.")
    if "items" in overs:
        lines.append(
            "Ours, items only: mean [95 % interval] over the items of one model; it says nothing about other seeds."
        )
    if any(cell.bold for cell in cells):
        lines.append(f"{mark}: best in its row and better than the baseline (Holm-adjusted p < {SIGNIFICANT}).")
    if any(cell.published is not None for cell in cells):
        source = summary.contents.published_source or "their authors"
        lines.append(f"{PUBLISHED.capitalize()}: figures from {source}, not ours, and without intervals.")
    return [*lines, *_missing(summary), *summary.contents.notes]


def differences_legend(summary: Summary) -> list[str]:
    """How the table of differences is to be read."""
    baseline = summary.contents.columns[summary.contents.baseline or ""]
    return [
        f"Differences from {baseline}, paired by seed and by item. p: paired t-test over seeds; with one seed, over "
        "items.",
        f"p (Holm): adjusted over all tested rows of the method. Bold: p (Holm) < {SIGNIFICANT}. No p: neither "
        "direction is better, or the differences do not vary and no test applies.",
    ]


def _missing(summary: Summary) -> Iterator[str]:
    """A line for each row and reason, with the columns and seeds that it applies to.

    A cell without a figure shows its reason already, so the line is left out unless the reason has details.
    """
    contents = summary.contents
    for name, row in contents.rows.items():
        cells = {column: summary.cells[name, column] for column in contents.columns}
        for reason in dict.fromkeys(reason for cell in cells.values() for reason in cell.missing.values()):
            seeds = {
                column: [seed for seed, why in cell.missing.items() if why == reason]
                for column, cell in cells.items()
                if cell.values or ":" in reason
            }
            if not any(seeds.values()):
                continue
            if all(len(seeds.get(column, [])) == cell.planned for column, cell in cells.items()):
                yield f"{row.title}, all: {reason}"
            else:
                places = (f"{contents.columns[column]} ({_seeds(of)})" for column, of in seeds.items() if of)
                yield f"{row.title}, {', '.join(places)}: {reason}"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _interval(interval: Interval, row: Row, *, sign: bool = False) -> str:
    return f"[{number(interval.low, row, sign=sign)}, {number(interval.high, row, sign=sign)}]"


def _p_value(value: float | None) -> str:
    if value is None:
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"
