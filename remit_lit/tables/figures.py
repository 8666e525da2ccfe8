"""Figures of a table's rows as PNG and SVG: every method's figure, and its difference from the baseline.

Like :mod:`remit_lit.tables.courses` they need ``remit_lit[evaluation]``.
"""

import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from remit_lit.tables import wording
from remit_lit.tables.drawing import BLACK, THIN, Style, drawing, label_numbers, new_figure, save, styles
from remit_lit.tables.summary import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS_PER_ROW = 4


def draw_rows(summary: Summary, path: Path) -> list[Path]:
    """A panel for each row: every column's mean and 95 % interval; a dashed line where the baseline is.

    Intervals over items alone are dotted, figures that are only a bound hollow, and speed-ups on a logarithmic axis.
    Published figures are not drawn, nor rows of what was set, such as tokens trained on.

    Args:
        summary: the table.
        path: of the files, without a suffix.

    Returns:
        The PNG and the SVG; nothing where every row is of what was set.

    Raises:
        ConfigError: matplotlib is missing.
    """
    subtitle = "mean and 95 % interval; dotted: over items only; hollow: a bound"
    rows = [name for name in summary.contents.rows if not _is_set(summary, name)]
    return _panels(summary, rows, list(summary.contents.columns), subtitle, _draw_row, path) if rows else []


def _is_set(summary: Summary, name: str) -> bool:
    """Whether a row has nothing that was measured: for each method the same with every seed."""
    row, cells = summary.contents.rows[name], [summary.cells[name, column] for column in summary.contents.columns]
    of_seeds = [set(cell.values.values()) for cell in cells if cell.values]
    if row.compared or row.log or not of_seeds or any(len(values) > 1 for values in of_seeds):
        return False
    return any(len(cell.values) > 1 for cell in cells) or len(set.union(*of_seeds)) == 1


def draw_differences(summary: Summary, path: Path) -> list[Path]:
    """A panel for each compared row: every method's paired difference from the baseline with its 95 % interval.

    Args:
        summary: the table.
        path: of the files, without a suffix.

    Returns:
        The PNG and the SVG; nothing where no row has a difference.

    Raises:
        ConfigError: matplotlib is missing.
    """
    contents = summary.contents
    rows = [name for name in contents.rows if any(summary.cells[name, c].difference for c in contents.columns)]
    if not rows:
        return []
    columns = [column for column in contents.columns if column != contents.baseline]
    subtitle = f"minus {contents.columns[contents.baseline or '']}, paired; dotted: over items only"
    return _panels(summary, rows, columns, subtitle, _draw_differences, path)


_Draw = Callable[["Axes", Summary, str, int, str, Style], None]


def _panels(
    summary: Summary, rows: Sequence[str], columns: Sequence[str], subtitle: str, draw: _Draw, path: Path
) -> list[Path]:
    contents = summary.contents
    looks = styles(contents.columns, contents.baseline)
    num_rows = math.ceil(len(rows) / _PANELS_PER_ROW)
    num_columns = math.ceil(len(rows) / num_rows)
    with drawing():
        figure = new_figure(2.0 + 2.3 * num_columns, 0.5 + num_rows * (0.9 + 0.26 * len(columns)))
        panels = figure.subplots(num_rows, num_columns, squeeze=False, sharey=True).ravel()
        for axes, name in zip(panels, rows, strict=False):
            for place, column in enumerate(columns):
                draw(axes, summary, name, place, column, looks[column])
            axes.set_title(textwrap.fill(wording.row_title(summary, name), 30))
            axes.set_yticks(range(len(columns)), [contents.columns[column] for column in columns])
            axes.set_ylim(len(columns) - 0.5, -0.5)
            _scale_axis(axes, summary, name, is_difference=draw is _draw_differences)
        for axes in panels[len(rows) :]:
            axes.set_axis_off()
        figure.suptitle(f"{contents.title} ({subtitle})", fontsize=10)
        return save(figure, path)


def _draw_row(axes: "Axes", summary: Summary, name: str, place: int, column: str, style: Style) -> None:
    contents, cell = summary.contents, summary.cells[name, column]
    if cell.mean is None:
        _say(axes, place, wording.figure(cell, contents.rows[name]))
        return
    if cell.interval is not None:
        _line(axes, place, (cell.interval.low, cell.interval.high), style, dotted=cell.over == "items")
    face = "white" if cell.bound else style["color"]
    look: Style = {"color": style["color"], "marker": style["marker"], "markerfacecolor": face, "clip_on": False}
    axes.plot(cell.mean, place, markersize=5, **look)
    if column == contents.baseline:
        axes.axvline(cell.mean, color=BLACK, linestyle="--", zorder=0, **THIN)


def _draw_differences(axes: "Axes", summary: Summary, name: str, place: int, column: str, style: Style) -> None:
    axes.axvline(0, color=BLACK, linestyle="--", zorder=0, **THIN)
    difference = summary.cells[name, column].difference
    if difference is None:
        _say(axes, place, "no difference")
        return
    interval = difference.over_seeds or difference.over_items
    if interval is not None:
        _line(axes, place, (interval.low, interval.high), style, dotted=difference.over_seeds is None)
    axes.plot(difference.mean, place, color=style["color"], marker=style["marker"], markersize=5)
    if difference.primary:
        axes.annotate("primary", (difference.mean, place), (0, 5), textcoords="offset points", ha="center", fontsize=7)


def _say(axes: "Axes", place: int, word: str) -> None:
    axes.text(0.5, place, word, transform=axes.get_yaxis_transform(), ha="center", va="center", color="0.4")


def _line(axes: "Axes", place: int, ends: tuple[float, float], style: Style, *, dotted: bool) -> None:
    axes.plot(ends, (place, place), color=style["color"], linestyle=":" if dotted else "-")


def _scale_axis(axes: "Axes", summary: Summary, name: str, *, is_difference: bool) -> None:
    """Room at both ends, but none for what cannot be."""
    axes.margins(x=0.12)
    row, means = (
        summary.contents.rows[name],
        [
            abs(cell.mean)
            for column in summary.contents.columns
            if (cell := summary.cells[name, column]).mean is not None
        ],
    )
    if not means:
        axes.set_xticks([])
        return
    large = max(means) >= 10_000
    if row.log and not is_difference:
        axes.set_xscale("log")
        label_numbers(axes.xaxis, engineering=large)
        return
    axes.locator_params(axis="x", nbins=4)
    if not is_difference:
        low, high = axes.get_xlim()
        least, most = summary.ranges[name]
        axes.set_xlim(max(low, least), min(high, most))
    if large:
        label_numbers(axes.xaxis, engineering=True)
