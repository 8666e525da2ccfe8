"""An evaluation for people: figures with what they are worth."""

import math

import numpy as np
from rich.table import Table

from remit_lit.evaluation.results import Evaluation, Metric
from remit_lit.evaluation.statistics import over_items

CAPTION = (
    "Standard errors are over items: the sample standard deviation over the root of n; of pooled figures (bits per "
    "byte, NLL) that of a ratio. 95 % intervals over items: Wilson's where outcomes are 0 and 1, else the symmetric "
    "bootstrap-t."
)


def standard_error(metric: Metric) -> float:
    """Of the mean over items; NaN for a single one.

    With weights, that of a ratio estimator by linearisation (Cochran, Sampling Techniques, 1977, section 2.11); with
    equal weights, the sample standard deviation over the root of the number of items.
    """
    count = len(metric.outcomes)
    if count < 2:
        return math.nan
    weights = np.ones(count) if metric.weights is None else metric.weights
    excess = weights * (metric.outcomes - metric.value)  # [items]
    return float(math.sqrt(count / (count - 1) * np.square(excess).sum()) / weights.sum())


def table(evaluation: Evaluation) -> Table:
    """A row for each metric of each task that was run."""
    shown = Table(title=str(evaluation.facts.get("model", {}).get("path", "")), caption=CAPTION, caption_justify="left")
    for title in ("task", "metric"):
        shown.add_column(title, overflow="fold")
    for title in ("items", "value", "standard error", "95 % interval"):
        shown.add_column(title, justify="right", no_wrap=True)
    for task, result in evaluation.tasks.items():
        for name, metric in result.metrics.items():
            count = len(metric.outcomes)
            found = over_items(metric.outcomes, metric.weights) if count > 1 else None
            interval = f"{found.low:.4f} to {found.high:.4f}" if found else "-"
            error = f"{standard_error(metric):.4f}" if found else "-"
            shown.add_row(task, name, f"{count:,}", f"{metric.value:.4f}", error, interval)
    return shown


def not_run(evaluation: Evaluation) -> list[str]:
    """A line for each task that was not run, with why."""
    return [
        f"not run: {task}: {found.not_run}" for task, found in evaluation.tasks.items() if found.not_run is not None
    ]
