"""Figures of a course: learning curves, the distance to another model stage by stage, the rounds of a flywheel."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from remit_lit.errors import ConfigError, not_among
from remit_lit.evaluation.results import Floats
from remit_lit.evaluation.statistics import Support, over_seeds, support_of
from remit_lit.tables.curves import Curve, Point, mean_curve, say_speed_up, speed_up_of
from remit_lit.tables.drawing import BLACK, THIN, Style, drawing, keep_in_range, new_figure, save, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OVER_SEEDS = "mean and 95 % interval over seeds"
_DODGE = 0.05
_TOGETHER = 4
"""So many bands can be told apart in one panel; of more curves, each gets a panel of its own beside the baseline's."""
_ABREAST = 3


class Distance(NamedTuple):
    """How far a model is from another on the same tokens.

    Attributes:
        kl: mean KL divergence a token, nats.
        agreement: share of tokens on which both rank the same token first, in [0, 1].
    """

    kl: float
    agreement: float


_SUPPORTS: Mapping[str, Support] = {"kl": "positive", "agreement": "share"}


def draw_learning_curves(
    curves: Mapping[str, Mapping[int, Curve]],
    baseline: str | None,
    path: Path,
    *,
    palette: Mapping[str, Style],
    measured: str,
    higher_is_better: bool,
    reaches: float | None = None,
    title: str = "",
) -> list[Path]:
    """Each column's mean curve with its 95 % band over seeds, and how much sooner it reaches the target.

    The speed-up is the table's: the geometric mean over seeds, each against the baseline's run of the same seed. With
    more than four curves each has a panel of its own, with the baseline's curve beside it.

    Args:
        curves: by title of the column and by seed.
        baseline: the column that others are compared with; None: no speed-ups.
        path: of the files, without a suffix.
        palette: style of each title, which is the same in all figures of a table.
        measured: for the axis, e.g. ``lab, accuracy``.
        higher_is_better: of what is measured.
        reaches: the target; None: of each seed the last value of the baseline.
        title: of the figure.

    Returns:
        The PNG and the SVG.

    Raises:
        ConfigError: matplotlib is missing, or the baseline is no column.
        ValueError: see :func:`remit_lit.tables.curves.mean_curve`.
    """
    if baseline is not None and baseline not in curves:
        raise ConfigError(f"baseline: {not_among(baseline, curves)}")
    means = {name: mean_curve(by_seed, higher_is_better=higher_is_better) for name, by_seed in curves.items()}
    labels = {}
    for name, by_seed in curves.items():
        labels[name] = f"{name}, {len(by_seed)} seed{'s' if len(by_seed) > 1 else ''}"
        if baseline is not None and name != baseline:
            times = speed_up_of(by_seed, curves[baseline], higher_is_better=higher_is_better, target=reaches)
            labels[name] += f": {say_speed_up(times)}"
    shared = [] if baseline is None else [baseline]
    alone = [[*shared, name] for name in curves if name not in shared]
    groups = [list(curves)] if len(curves) <= _TOGETHER else alone
    with drawing():
        deep = -(-len(groups) // _ABREAST)
        abreast = -(-len(groups) // deep)
        size = (7.5, 4.0) if len(groups) == 1 else (1.0 + 3.0 * abreast, 0.8 + 2.4 * deep)
        figure = new_figure(*size)
        panels = figure.subplots(deep, abreast, squeeze=False, sharex=True, sharey=True).ravel()
        target = _target(means, baseline, reaches)
        for axes, names in zip(panels, groups, strict=False):
            _draw_curves(axes, {name: means[name] for name in names}, palette, labels)
            if target is not None:
                axes.axhline(target[1], color=BLACK, linestyle="--", label=target[0], **THIN)
            if len(groups) > 1:
                axes.set_title(textwrap.fill(labels[names[-1]], 44))
        for axes in panels[len(groups) :]:
            axes.set_axis_off()
        all_values = [np.array([value for _, value in curve]) for of in curves.values() for curve in of.values()]
        keep_in_range(panels[0], support_of(all_values, higher_is_better))
        figure.supxlabel("training tokens", fontsize=9)
        figure.supylabel(f"{measured} ({'higher' if higher_is_better else 'lower'} is better)", fontsize=9)
        figure.suptitle(f"{title}\n{_OVER_SEEDS}".strip(), fontsize=9)
        if len(groups) == 1:
            figure.legend(loc="outside right upper")
        return save(figure, path)


def _draw_curves(
    axes: "Axes", means: Mapping[str, Sequence[Point]], palette: Mapping[str, Style], labels: Mapping[str, str]
) -> None:
    from matplotlib.ticker import EngFormatter

    for name, points in means.items():
        axes.plot(
            [at.tokens for at in points],
            [at.mean for at in points],
            **palette[name],
            markersize=3.5,
            label=labels[name],
        )
        banded = [(at.tokens, at.interval.low, at.interval.high) for at in points if at.interval is not None]
        if banded:
            axes.fill_between(*np.transpose(banded), color=palette[name]["color"], alpha=0.15, linewidth=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _target(
    means: Mapping[str, Sequence[Point]], baseline: str | None, reaches: float | None
) -> tuple[str, float] | None:
    if reaches is not None:
        return "target", reaches
    return None if baseline is None else (f"where {baseline} ends", means[baseline][-1].mean)


def draw_dynamics(
    arms: Mapping[str, Mapping[str, Sequence[Distance]]],
    path: Path,
    *,
    palette: Mapping[str, Style],
    to: str,
    title: str = "",
) -> list[Path]:
    """How far each arm's models are from another model, stage by stage: KL above, top-1 agreement below.

    Args:
        arms: by title and by stage, in order; a distance for each seed. A stage that an arm lacks is left out.
        path: of the files, without a suffix.
        palette: style of each title, which is the same in all figures of a table.
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
        for number, name in enumerate(arms):
            present = [stage for stage in stages if arms[name].get(stage)]
            at = [stages.index(stage) + _DODGE * (number - (len(arms) - 1) / 2) for stage in present]
            for axes, part in zip(panels, Distance._fields, strict=True):
                seeds = [np.array([getattr(distance, part) for distance in arms[name][stage]]) for stage in present]
                _draw_points(axes, at, seeds, _SUPPORTS[part], palette[name], name)
        for axes, part in zip(panels, Distance._fields, strict=True):
            keep_in_range(axes, _SUPPORTS[part])
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
            support = support_of(seeds, True)
            at = [round_ + 0.04 * (number - (len(arms) - 1) / 2) for round_ in arms[name]]
            _draw_points(axes, at, seeds, support, style, name)
        keep_in_range(axes, support)
        axes.set_xticks(sorted({round_ for values in arms.values() for round_ in values}))
        axes.set_xlabel("round")
        axes.set_ylabel(measured)
        axes.set_title(f"{title}\nmean and 95 % interval over seeds")
        figure.legend(loc="outside right upper")
        return save(figure, path)


def _draw_points(
    axes: "Axes", at: Sequence[float], seeds: Sequence[Floats], support: Support, style: Style, label: str
) -> None:
    """Means with their intervals; ``seeds`` has the values of each point."""
    means = [float(values.mean()) for values in seeds]
    intervals = [over_seeds(values, support) if len(values) > 1 else None for values in seeds]
    ends = [(m, m) if i is None else (i.low, i.high) for m, i in zip(means, intervals, strict=True)]
    errors = [
        [m - low for m, (low, _) in zip(means, ends, strict=True)],
        [h - m for m, (_, h) in zip(means, ends, strict=True)],
    ]
    axes.errorbar(at, means, errors, **style, markersize=4, capsize=2, label=label)
