"""What a table says, in words that all formats share; each format only sets them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from remit_lit.evaluation.design import power, runs_needed
from remit_lit.evaluation.statistics import Interval
from remit_lit.tables.contents import Row
from remit_lit.tables.summary import SIGNIFICANT, Cell, Difference, Summary

PUBLISHED = "published"
"""The label that stands with every figure that is not ours."""

_BOUNDS = {"at least": "≥", "at most": "≤"}

_SCALES = (
    "Intervals of shares are of their log odds, those of losses, tokens and speed-ups of their logarithms, so none "
    "leaves its range."
)


class DifferenceLine(NamedTuple):
    """A line of the table of differences: its texts are those of :func:`difference_header`."""

    column: str
    texts: tuple[str, ...]
    significant: bool


def difference_header(summary: Summary) -> tuple[str, ...]:
    """The titles of the columns of the table of differences, after that of the method."""
    over = ("seeds", *([] if summary.contents.block is None else [summary.contents.block]), "items")
    return ("row", "difference", *(f"95 % over {name}" for name in over), "seeds", "p", "p (Holm)")


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
    """Our figure: ``mean [low, high]`` where it spreads, a bound where a seed has none, or why it is missing."""
    if cell.mean is None:
        return ", ".join(sorted({reason.split(":")[0] for reason in cell.missing.values()})) or "not run"
    if cell.bound is not None:
        return f"{_BOUNDS[cell.bound]} {number(cell.mean, row)}"
    if cell.interval is None or cell.interval.low == cell.interval.high:
        return number(cell.mean, row)
    return f"{number(cell.mean, row)} {_interval(cell.interval, row)}"


def remarks(cell: Cell) -> list[str]:
    """What a reader must know about the figure."""
    lines = ["items only"] if cell.over == "items" else []
    if cell.values and cell.missing:
        lines.append(f"{len(cell.values)} of {cell.planned} seeds")
    if cell.censored:
        lines.append(f"{len(cell.censored)} of {cell.planned} never reach it")
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
        for name in summary.contents.rows:
            difference = summary.cells[name, column].difference
            if difference is not None:
                texts = difference_texts(summary, name, difference)
                significant = difference.p_holm is not None and difference.p_holm < SIGNIFICANT
                lines.append(DifferenceLine(title, texts, significant))
    return lines


def difference_texts(summary: Summary, name: str, difference: Difference) -> tuple[str, ...]:
    """A difference in the row ``name``, in the columns of :func:`difference_header`."""
    row, block = summary.contents.rows[name], summary.contents.block
    over_blocks = [] if block is None else [difference.over_blocks]
    intervals = (difference.over_seeds, *over_blocks, difference.over_items)
    return (
        row_title(summary, name),
        number(difference.mean, row, sign=True),
        *("" if interval is None else _interval(interval, row, sign=True) for interval in intervals),
        str(difference.n_seeds),
        _p_value(difference.p_value),
        "primary" if difference.primary else _p_value(difference.p_holm),
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
        lines.append("Ours: mean over seeds [95 % t interval]: how much the choice of seeds matters. " + _SCALES)
    if "items" in overs:
        lines.append(
            "Ours, items only: mean [95 % interval] over the items of one model; it says nothing about other seeds."
        )
    if any(cell.bold for cell in cells):
        lines.append(
            f"{mark}: best in its row and better than the baseline (p < {SIGNIFICANT}, Holm-adjusted unless primary)."
        )
    if any(cell.published is not None for cell in cells):
        source = summary.contents.published_source or "their authors"
        lines.append(f"{PUBLISHED.capitalize()}: figures from {source}, not ours, and without intervals.")
    if any(cell.bound for cell in cells):
        lines.append("≥, ≤: seeds that never reach the target count with the bound that their last evaluation gives.")
    return [*lines, *design(summary), *_missing(summary), *summary.contents.notes]


def design(summary: Summary) -> list[str]:
    """What power the runs have for the smallest effect of the primary comparison, where they are too few for it."""
    primary = summary.contents.primary
    if primary is None or primary.smallest_effect is None:
        return []
    cell, base = (summary.cells[primary.row, column] for column in (primary.method, primary.control))
    paired = [value - base.values[seed] for seed, value in cell.values.items() if seed in base.values]
    sd = primary.sd if primary.sd is not None else float(np.std(paired, ddof=1)) if len(paired) > 1 else None
    if not sd:
        return []
    effect, runs = primary.smallest_effect, max(cell.planned, base.planned)
    needed = runs_needed(effect, sd)
    if needed is not None and runs >= needed:
        return []
    return [
        f"Too few runs for the design: to find {effect:g} in the primary comparison with a power of 80 %, "
        f"{needed or 'over 10,000'} are needed at a standard deviation of {sd:.3g} over seeds "
        f"({'given' if primary.sd else 'of these runs'}); {runs} have a power of {100 * power(effect, sd, runs):.0f} %."
    ]


def differences_legend(summary: Summary) -> list[str]:
    """How the table of differences is to be read."""
    baseline = summary.contents.columns[summary.contents.baseline or ""]
    block = summary.contents.block
    return [
        *(
            []
            if block is None
            else [f"Over {block}: of the mean difference for each; what another {block} would give."]
        ),
        f"Differences from {baseline}, paired by seed and by item. p: paired t-test over seeds; with one seed, over "
        "items. No p: neither direction is better, or the differences do not vary and no test applies.",
        "p (Holm): of a secondary comparison, adjusted over all methods that its row compares; the primary one is a "
        f"question of its own. Bold: below {SIGNIFICANT}, of the primary comparison p itself.",
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
