"""A figure's plots beside each other, as PNG and SVG, in the style and colours of the tables' figures."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from remit_lit.evaluation.results import Floats
from remit_lit.evaluation.statistics import Support, over_seeds, support_of
from remit_lit.figures.lines import Line, Place, Plot
from remit_lit.figures.settings import IN_TRAINING, FigureSettings, Over, Panel, stage_names
from remit_lit.runs.wording import is_share, title_of
from remit_lit.tables.curves import Curve, say_speed_up, speed_up_of
from remit_lit.tables.drawing import (
    BLACK,
    THIN,
    Style,
    drawing,
    keep_in_range,
    label_numbers,
    new_figure,
    save,
    styles,
)
from remit_lit.tables.settings import TableSettings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXES: Mapping[Over, str] = {
    "tokens": "training tokens",
    "hours": "hours of training",
    "step": "training steps",
    "stage": "",
    "log_ratio": "log p of the reference less log p of the model, nats",
}
_DODGE = 0.06
_MOST_BESIDE = 3  # plots in a row
_TAIL = 0.001
"""What share of a distribution may lie beyond either end of the plot; the data have all of it."""


def draw_figure(figure: FigureSettings, table: TableSettings, plots: Mapping[str, Plot], path: Path) -> list[Path]:
    """A plot for each panel: each method's mean over seeds with its 95 % interval. Methods not run stand in the legend.

    Args:
        figure: what to show.
        table: that it is laid over, whose methods give order and colours.
        plots: the numbers by panel.
        path: of the files, without a suffix.

    Returns:
        The PNG and the SVG.

    Raises:
        ConfigError: matplotlib is missing.
    """
    palette = styles(table.methods, table.baseline)
    with drawing():
        columns = min(len(plots), _MOST_BESIDE)
        rows = math.ceil(len(plots) / columns)
        drawn = new_figure(1.0 + 4.4 * columns, 4.2 * rows)
        places = list(drawn.subplots(rows, columns, squeeze=False).flat)
        for axes in places[len(plots) :]:
            axes.remove()
        for axes, (name, plot) in zip(places, plots.items(), strict=False):
            panel = figure.panels[name]
            measured = _Measured(_support(figure, panel, plot), plot.scale)
            for number, method in enumerate(_series(figure, table)):
                label = _label(panel, table, plot, method)
                lines = list(plot.lines[method].values())
                if not lines:
                    axes.plot([], [], **palette[method], label=label)
                elif panel.over == "stage":
                    shift = _DODGE * (number - (len(figure.series) - 1) / 2)
                    _draw_stages(axes, stage_names(panel, table), lines, shift, palette[method], label, measured)
                else:
                    _draw_course(axes, panel, lines, palette[method], label, measured)
            _finish(axes, figure, panel, table, plot)
            if panel.log:
                axes.set_yscale("log")
            keep_in_range(axes, measured.support, measured.scale)
            if panel.log:
                label_numbers(axes.yaxis)
        drawn.suptitle(table.title, fontsize=10)
        return save(drawn, path)


class _Measured(NamedTuple):
    """Where what a panel shows can lie, and what is shown for a value of 1."""

    support: Support
    scale: float

    def ends(self, values: Sequence[Floats]) -> tuple[Floats, Floats]:
        """Of the 95 % t interval of each point, as in tables; of a single seed the point itself."""
        found = [over_seeds(of / self.scale, self.support).scaled(self.scale) if len(of) > 1 else None for of in values]
        low = [of[0] if interval is None else interval.low for of, interval in zip(values, found, strict=True)]
        high = [of[0] if interval is None else interval.high for of, interval in zip(values, found, strict=True)]
        return np.array(low), np.array(high)


def _support(figure: FigureSettings, panel: Panel, plot: Plot) -> Support:
    """Gains may have either sign, whichever these have; and the ends of a distribution, near 0, would flare.

    What a run logs at its steps is a share only by its name: norms and losses may be small for other reasons.
    """
    lines = [line for of_seeds in plot.lines.values() for line in of_seeds.values()]
    if panel.gain or panel.over == "log_ratio" or not lines:
        return "real"
    values = [np.array([value for _, value in line.points]) / plot.scale for line in lines]
    is_known = panel.over == "step" and not is_share(figure.measure_of(panel))
    return support_of(values, False if is_known else panel.higher_is_better)


def _series(figure: FigureSettings, table: TableSettings) -> list[str]:
    return [name for name in table.methods if name in figure.series]


def _label(panel: Panel, table: TableSettings, plot: Plot, method: str) -> str:
    title, seeds = table.methods[method].title, len(plot.lines[method])
    if not seeds:
        return f"{title}: {next(iter(plot.missing[method].values())).split(':')[0]}"
    label = f"{title}, {seeds} seed{'s' if seeds > 1 else ''}"
    if panel.over in IN_TRAINING and table.baseline not in (None, method):
        ours, theirs = (_curves(plot.lines[name]) for name in (method, table.baseline or ""))
        label += f": {say_speed_up(speed_up_of(ours, theirs, higher_is_better=panel.higher_is_better))}"
    return label


def _curves(lines: Mapping[int, Line]) -> dict[int, Curve]:
    return {seed: [(float(at), value) for at, value in line.points] for seed, line in lines.items()}


def _draw_course(
    axes: "Axes", panel: Panel, lines: Sequence[Line], style: Style, label: str, measured: _Measured
) -> None:
    """The seeds' points one by one: they were measured at the same steps, if at other times."""
    length = min(len(line.points) for line in lines)
    both = np.array([line.points[:length] for line in lines], dtype=float)  # [seeds, points, 2]
    places, values = both[:, :, 0].mean(axis=0), both[:, :, 1].T
    marker = "" if panel.over in ("step", "log_ratio") else style["marker"]
    axes.plot(places, values.mean(axis=1), **{**style, "marker": marker}, markersize=3.5, linewidth=1.2, label=label)
    low, high = measured.ends(list(values))
    axes.fill_between(places, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _draw_stages(
    axes: "Axes",
    stages: Sequence[str],
    lines: Sequence[Line],
    shift: float,
    style: Style,
    label: str,
    measured: _Measured,
) -> None:
    by_stage: dict[Place, list[float]] = {}
    for line in lines:
        for place, value in line.points:
            by_stage.setdefault(place, []).append(value)
    present = [stage for stage in stages if stage in by_stage]
    values = [np.array(by_stage[stage]) for stage in present]
    means = np.array([of_stage.mean() for of_stage in values])
    low, high = measured.ends(values)
    at = [stages.index(stage) + shift for stage in present]
    axes.errorbar(at, means, [means - low, high - means], **style, markersize=4, capsize=2, label=label)


def _finish(axes: "Axes", figure: FigureSettings, panel: Panel, table: TableSettings, plot: Plot) -> None:
    from matplotlib.ticker import EngFormatter

    measure, title = figure.measure_of(panel), panel.title
    if panel.over == "stage":
        stages = stage_names(panel, table)
        used = {place for lines in plot.lines.values() for line in lines.values() for place, _ in line.points}
        shown = [stage for stage in stages if stage in used]
        axes.set_xticks([stages.index(stage) for stage in shown], [textwrap.fill(stage, 12) for stage in shown])
        row = table.rows[measure].title
        axes.set_ylabel(f"{row}, less that of {table.methods[table.baseline or ''].title}" if panel.gain else row)
        if panel.gain:
            axes.axhline(0.0, color=BLACK, linestyle="--", **THIN)
    else:
        axes.set_xlabel(AXES[panel.over])
        axes.set_ylabel("density" if panel.over == "log_ratio" else title_of(measure))
    if panel.over in ("tokens", "step"):
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    baseline = plot.lines.get(table.baseline or "", {})
    if panel.over in IN_TRAINING and baseline:
        last = float(np.mean([line.points[-1][1] for line in baseline.values()]))
        axes.axhline(last, color=BLACK, linestyle="--", **THIN)
    if panel.over == "log_ratio":
        _cut_tails(axes, [line for lines in plot.lines.values() for line in lines.values()])
    axes.set_title(f"{title}\nmean and 95 % interval over seeds")
    axes.legend(fontsize=7)


def _cut_tails(axes: "Axes", lines: Sequence[Line]) -> None:
    """Show where the bulk of every distribution lies."""
    ends = []
    for line in lines:
        places, density = np.array(line.points, dtype=float).T
        share = np.cumsum(density) / density.sum()
        first, last = np.searchsorted(share, (_TAIL, 1 - _TAIL)).clip(max=len(places) - 1)
        ends.append((places[first], places[last]))
    if ends:
        axes.set_xlim(min(low for low, _ in ends), max(high for _, high in ends))
