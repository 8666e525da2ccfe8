"""From the samples of lm-evaluation-harness to the outcome of every item."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lm_eval.api import metrics as harness_metrics
from lm_eval.api.task import Task

from remit_lit.evaluation.results import Metric

_BY_INSTRUCTION = "agg_inst_level_acc"
"""How IFEval's tasks name the mean over all instructions, which the harness loads from a file of each task."""


def metrics_of(task: Task, samples: Sequence[Mapping[str, Any]]) -> dict[str, Metric]:
    """The metrics of a task that are means over items, by the harness's names.

    A name is followed by a comma and the filter's where a task has several (``exact_match,strict-match``). Bits per
    byte are weighted by bytes, and IFEval's accuracy by instruction by the instructions of a prompt. What is no mean
    over items (F1, BLEU) has no outcome by item and is left out.

    Args:
        task: that was run.
        samples: of the harness, one of each item and filter.
    """
    filters = list(dict.fromkeys(sample["filter"] for sample in samples))
    found = {}
    for chosen in filters:
        of_filter = [sample for sample in samples if sample["filter"] == chosen]
        for name in of_filter[0]["metrics"]:
            metric = _metric(task, name, [sample[name] for sample in of_filter])
            if metric is not None:
                found[f"{name},{chosen}" if len(filters) > 1 else name] = metric
    return found


def item_names(task: str, samples: Sequence[Mapping[str, Any]]) -> list[str]:
    """What identifies each item: place in the task, and the beginning of the harness's hash of its record."""
    first = [sample for sample in samples if sample["filter"] == samples[0]["filter"]]
    return [f"{task}/{sample['doc_id']}-{sample['doc_hash'][:8]}" for sample in first]


def pooled(parts: Sequence[Mapping[str, Metric]]) -> dict[str, Metric]:
    """The metrics that all parts have, over the items of all."""
    names = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: _joined([part[name] for part in parts]) for name in names}


def _metric(task: Task, name: str, values: Sequence[Any]) -> Metric | None:
    higher = task.higher_is_better().get(name)
    aggregation = task.aggregation().get(name, harness_metrics.mean)
    if aggregation is harness_metrics.bits_per_byte:
        nats, sizes = np.array(values, dtype=np.float64).T  # each [items]
        return Metric(-nats / math.log(2) / sizes, False, sizes)
    if getattr(aggregation, "__name__", "") == _BY_INSTRUCTION:
        solved = np.array([np.mean(followed) for followed in values], dtype=np.float64)  # [prompts]
        return Metric(solved, higher, np.array([len(followed) for followed in values], dtype=np.float64))
    if aggregation is harness_metrics.mean and all(
        isinstance(value, (bool, int, float, np.number)) for value in values
    ):
        return Metric(np.array(values, dtype=np.float64), higher)
    return None


def _joined(metrics: Sequence[Metric]) -> Metric:
    weights = [metric.weights for metric in metrics]
    known = [weight for weight in weights if weight is not None]
    outcomes = np.concatenate([metric.outcomes for metric in metrics])
    return Metric(outcomes, metrics[0].higher_is_better, np.concatenate(known) if known else None)
