"""What training cost, by what a run recorded."""

import csv
import json
import statistics
from typing import Any

from remit_lit.jobs.job import Job
from remit_lit.runs.folder import METRICS, RECORD
from remit_lit.tables.contents import Missing
from remit_lit.tables.settings import Cost


def cost_of(job: Job, cost: Cost, baseline: Job | None) -> float:
    """A figure of a ``fit`` that is done.

    Args:
        job: the ``fit``.
        cost: which figure.
        baseline: the baseline's ``fit`` of the same seed, done too; needed where the figure is compared with it.

    Raises:
        Missing: the run did not record it.
    """
    if cost == "throughput_lost":
        if baseline is None:
            raise Missing("there is no baseline to be slower than")
        return 1 - tokens_per_second(job) / tokens_per_second(baseline)
    costs = record_of(job)["cost"]
    if cost == "flops":
        return float(costs["policy_flops"] + costs["reference_flops"])
    if costs.get(cost) is None:
        raise Missing(f"not recorded: {job.name} or its column of scores is of an earlier version")
    return float(costs[cost])


def tokens_per_second(job: Job) -> float:
    """The median of what was logged in training, without validations and evaluations.

    Raises:
        Missing: nothing was logged.
    """
    try:
        with open(job.result / METRICS, newline="") as stream:
            logged = [float(line["tokens_per_second"]) for line in csv.DictReader(stream) if line["tokens_per_second"]]
    except (OSError, KeyError, ValueError) as error:
        raise Missing(f"not recorded: {job.name} has no tokens_per_second in {METRICS} ({error!r})") from error
    if not logged:
        raise Missing(f"not recorded: {job.name} logged no tokens_per_second")
    return statistics.median(logged)


def record_of(job: Job) -> dict[str, Any]:
    """What a run recorded of itself.

    Raises:
        Missing: the record is damaged.
    """
    try:
        record: dict[str, Any] = json.loads((job.result / RECORD).read_text())
    except (OSError, ValueError) as error:
        raise Missing(f"damaged: {error}; remove {job.folder} and run the table again") from error
    return record
