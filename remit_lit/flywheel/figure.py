"""The figure of a flywheel: every arm's RL-tuned model over the rounds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from remit_lit.evaluation.statistics import over_seeds
from remit_lit.tables.drawing import drawing, new_figure, save, styles


def draw_rounds(
    arms: Mapping[str, Mapping[int, Sequence[float]]], baseline: str, path: Path, *, measured: str, title: str
) -> list[Path]:
    """Means over seeds with 95 % t intervals.

    Args:
        arms: by title and by round, of each seed.
        baseline: the arm drawn in black.
        path: of the files, without a suffix.
        measured: for the axis.
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
