"""Figures as PNG and SVG: a table's rows, learning curves, training dynamics. They need ``remit_lit[evaluation]``."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from remit_lit.errors import ConfigError
from remit_lit.evaluation.statistics import over_seeds
from remit_lit.tables import wording
from remit_lit.tables.curves import Curve, mean_curve, speed_up
from remit_lit.tables.drawing import BLACK, drawing, new_figure, save, styles
from remit_lit.tables.summary import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_PANELS_ABREAST = 4
_OVER_SEEDS = "mean and 95 % interval over seeds"
_DODGE = 0.05
_BANDS = 4
"""So many bands can be told apart; with more curves, only the last interval of each is drawn."""
_THIN: dict[str, float] = {"linewidth": 0.8}


class Distance(NamedTuple):
    """How far a model is from another on the same tokens.

    Attributes:
        kl: mean KL divergence a token, nats.
        agreement: share of tokens on which both rank the same token first, in [0, 1].
    """

    kl: float
    agreement: float


def draw_rows(summary: Summary, path: Path) -> list[Path]:
    """A panel for each row: every column's mean and 95 % interval; a dashed line where the baseline is.

    Intervals over items alone are dotted. Published figures are not drawn.

    Args:
        summary: the table.
        path: of the files, without a suffix.

    Returns:
        The PNG and the SVG.

    Raises:
        ConfigError: matplotlib is missing.
    """
    contents = summary.contents
    deep = math.ceil(len(contents.rows) / _PANELS_ABREAST)
    abreast = math.ceil(len(contents.rows) / deep)
    with drawing():
        figure = new_figure(2.0 + 2.3 * abreast, 0.5 + deep * (0.9 + 0.26 * len(contents.columns)))
        panels = figure.subplots(deep, abreast, squeeze=False, sharey=True).ravel()
        for axes, name in zip(panels, contents.rows, strict=False):
            _draw_row(axes, summary, name)
        for axes in panels[len(contents.rows) :]:
            axes.set_axis_off()
        figure.suptitle(f"{contents.title} (mean and 95 % interval; dotted: over items only)", fontsize=10)
        return save(figure, path)


def _draw_row(axes: "Axes", summary: Summary, name: str) -> None:
    from matplotlib.ticker import EngFormatter

    contents = summary.contents
    cells = {column: summary.cells[name, column] for column in contents.columns}
    for place, (column, style) in enumerate(styles(contents.columns, contents.baseline).items()):
        cell = cells[column]
        if cell.mean is None:
            word = wording.figure(cell, contents.rows[name])
            axes.text(0.5, place, word, transform=axes.get_yaxis_transform(), ha="center", va="center", color="0.4")
            continue
        if cell.interval is not None:
            ends = (cell.interval.low, cell.interval.high)
            axes.plot(ends, (place, place), color=style["color"], linestyle="-" if cell.over == "seeds" else ":")
        axes.plot(cell.mean, place, color=style["color"], marker=style["marker"], markersize=5)
        if column == contents.baseline:
            axes.axvline(cell.mean, color=BLACK, linestyle="--", zorder=0, **_THIN)
    axes.set_title(textwrap.fill(wording.row_title(summary, name), 30))
    axes.set_yticks(range(len(contents.columns)), list(contents.columns.values()))
    axes.set_ylim(len(contents.columns) - 0.5, -0.5)
    axes.margins(x=0.12)
    axes.locator_params(axis="x", nbins=4)
    means = [abs(cell.mean) for cell in cells.values() if cell.mean is not None]
    if not means:
        axes.set_xticks([])
    elif max(means) >= 10_000:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def draw_learning_curves(
    curves: Mapping[str, Mapping[int, Curve]],
    baseline: str | None,
    path: Path,
    *,
    measured: str,
    higher_is_better: bool,
    title: str = "",
) -> list[Path]:
    """Each column's mean curve with its 95 % t band over seeds, and how much sooner it reaches the baseline's end.

    With more than four curves, only the interval at the last point of each is drawn, beside the point.

    Args:
        curves: by title of the column and by seed.
        baseline: the column whose last mean is drawn as a horizontal line; None: no line and no speed-ups.
        path: of the files, without a suffix.
        measured: for the axis, e.g. ``lab, accuracy``.
        higher_is_better: of what is measured.
        title: of the figure.

    Returns:
        The PNG and the SVG.

    Raises:
        ConfigError: matplotlib is missing, or the baseline is no column.
        ValueError: see :func:`remit_lit.tables.curves.mean_curve`.
    """
    if baseline is not None and baseline not in curves:
        raise ConfigError(f"baseline: got {baseline!r}; give one of {', '.join(curves)}")
    means = {name: mean_curve(by_seed) for name, by_seed in curves.items()}
    lines: dict[str, Curve] = {name: [(at.tokens, at.mean) for at in points] for name, points in means.items()}
    with drawing():
        from matplotlib.ticker import EngFormatter

        figure = new_figure(7.5, 4.0)
        axes = figure.subplots()
        longest = max(line[-1][0] for line in lines.values())
        for number, (name, style) in enumerate(styles(curves, baseline).items()):
            label = f"{name}, {len(curves[name])} seed{'s' if len(curves[name]) > 1 else ''}"
            if baseline is not None and name != baseline:
                times = speed_up(lines[name], lines[baseline], higher_is_better=higher_is_better)
                label += ": never reaches it" if times is None else f": speed-up {times:.2g}"
            axes.plot(*np.transpose(lines[name]), **style, markersize=3.5, label=label)
            banded = [(at.tokens, at.interval.low, at.interval.high) for at in means[name] if at.interval is not None]
            if banded and len(curves) <= _BANDS:
                axes.fill_between(*np.transpose(banded), color=style["color"], alpha=0.15, linewidth=0)
            elif banded:
                tokens, low, high = banded[-1]
                beside = [tokens + 0.012 * longest * (1 + number)] * 2
                axes.plot(beside, (low, high), color=style["color"], linestyle=style["linestyle"], linewidth=1.2)
                axes.plot(beside[0], means[name][-1].mean, color=style["color"], marker=style["marker"], markersize=3.5)
        if baseline is not None:
            end = lines[baseline][-1][1]
            axes.axhline(end, color=BLACK, linestyle="--", label=f"where {baseline} ends", **_THIN)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlabel("training tokens")
        axes.set_ylabel(f"{measured} ({'higher' if higher_is_better else 'lower'} is better)")
        axes.set_title(f"{title}\n{_OVER_SEEDS}".strip())
        figure.legend(loc="outside right upper")
        return save(figure, path)


def draw_dynamics(
    arms: Mapping[str, Mapping[str, Sequence[Distance]]], path: Path, *, to: str, title: str = ""
) -> list[Path]:
    """How far each arm's models are from another model, stage by stage: KL above, top-1 agreement below.

    Args:
        arms: by title and by stage, in order; a distance for each seed. A stage that an arm lacks is left out.
        path: of the files, without a suffix.
        to: the other model, for the axes.
        title: of the figure.

    Returns:
        The PNG and the SVG.

    Raises:
        ConfigError: matplotlib is missing.
    """
    stages = list(dict.fromkeys(stage for by_stage in arms.values() for stage in by_stage))
    with drawing():
        figure = new_figure(7.5, 5.0)
        panels = figure.subplots(2, sharex=True)
        for number, (name, style) in enumerate(styles(arms).items()):
            present = [stage for stage in stages if arms[name].get(stage)]
            at = [stages.index(stage) + _DODGE * (number - (len(arms) - 1) / 2) for stage in present]
            for axes, part in zip(panels, Distance._fields, strict=True):
                seeds = [np.array([getattr(distance, part) for distance in arms[name][stage]]) for stage in present]
                means = [float(values.mean()) for values in seeds]
                half = [over_seeds(values).high - values.mean() if len(values) > 1 else 0.0 for values in seeds]
                axes.errorbar(at, means, half, **style, markersize=4, capsize=2, label=name)
        panels[0].set_ylabel(f"KL to {to}\n(nats a token)")
        panels[1].set_ylabel(f"top-1 agreement\nwith {to}")
        panels[1].set_xticks(range(len(stages)), [textwrap.fill(stage, 12) for stage in stages])
        panels[0].set_title(f"{title}\n{_OVER_SEEDS}".strip())
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper")
        return save(figure, path)


def draw_rounds(
    arms: Mapping[str, Mapping[int, Sequence[float]]], baseline: str, path: Path, *, measured: str, title: str
) -> list[Path]:
    """A figure over the rounds of a flywheel: each arm's mean over seeds with its 95 % t interval.

    Args:
        arms: figures of the seeds, by title and by round.
        baseline: the arm drawn in black.
        path: of the files, without a suffix.
        measured: what the figure is, for the axis.
        title: of the figure.

    Returns:
        The PNG and the SVG.

    Raises:
        ConfigError: matplotlib is missing.
    """
    with drawing():
        figure = new_figure(6.0, 3.5)
        axes = figure.subplots()
        for number, (name, style) in enumerate(styles(arms, baseline).items()):
            seeds = [np.array(values) for values in arms[name].values()]
            means = [float(values.mean()) for values in seeds]
            half = [over_seeds(values).high - values.mean() if len(values) > 1 else 0.0 for values in seeds]
            at = [round_ + 0.04 * (number - (len(arms) - 1) / 2) for round_ in arms[name]]
            axes.errorbar(at, means, half, **style, markersize=4, capsize=2, label=name)
        axes.set_xticks(sorted({round_ for values in arms.values() for round_ in values}))
        axes.set_xlabel("round")
        axes.set_ylabel(measured)
        axes.set_title(f"{title}\nmean and 95 % interval over seeds")
        figure.legend(loc="outside right upper")
        return save(figure, path)
