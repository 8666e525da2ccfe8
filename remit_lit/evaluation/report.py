"""What ``evaluate`` prints: a table of the metrics, and which tasks were not run."""

import math

import numpy as np
from rich.table import Table

from remit_lit.evaluation.results import Evaluation, Metric
from remit_lit.evaluation.statistics import over_items, support_of
from remit_lit.models.spec import label

CAPTION = (
    "Standard errors are over items: the sample standard deviation divided by the square root of n; for pooled figures "
    "(bits per byte, NLL), that of a ratio. 95 % intervals are over items too: Wilson's where every outcome is 0 or 1, "
    "otherwise the symmetric bootstrap-t, kept within what the figure can be."
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


def results_table(evaluation: Evaluation) -> Table:
    """A row for each metric of each task that was run."""
    model = evaluation.facts.get("model", {})
    title = label(str(model.get("path", "")), model.get("revision"))
    shown = Table(title=title, caption=CAPTION, caption_justify="left")
    for title in ("task", "metric"):
        shown.add_column(title, overflow="fold")
    for title in ("items", "value", "standard error", "95 % interval"):
        shown.add_column(title, justify="right", no_wrap=True)
    for task, result in evaluation.tasks.items():
        for name, metric in result.metrics.items():
            count = len(metric.outcomes)
            support = support_of([metric.outcomes], metric.higher_is_better)
            over = over_items(metric.outcomes, metric.weights, support=support) if count > 1 else None
            interval = f"{over.low:.4f} to {over.high:.4f}" if over else "-"
            error = f"{standard_error(metric):.4f}" if over else "-"
            shown.add_row(task, name, f"{count:,}", f"{metric.value:.4f}", error, interval)
    return shown


def not_run(evaluation: Evaluation) -> list[str]:
    """A line for each task that was not run, with why."""
    return [
        f"not run: {task}: {result.not_run}" for task, result in evaluation.tasks.items() if result.not_run is not None
    ]
