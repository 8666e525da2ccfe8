"""What a model of a round took from the base on, with all that its references took in the rounds before."""

import json
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from remit_lit.evaluation.results import Metric
from remit_lit.flywheel.settings import FlywheelSettings, method_name
from remit_lit.jobs.job import Job, with_inputs
from remit_lit.runs.folder import CONFIG, RECORD
from remit_lit.tables.contents import Entry, Row
from remit_lit.tables.plan import Plan

NOTE = (
    "Spent is all that the RL-tuned model of a round needed from the base on, each run once: its own mid-training and "
    "stages (on each device), and those of its references back to round 0."
)
ROWS = {
    "spent_tokens": Row("tokens of mid-training spent", 1.0, 0, compared=False),
    "spent_samples": Row("examples and answers of post-training spent", 1.0, 0, compared=False),
}


def spent(settings: FlywheelSettings, plan: Plan, round_: int) -> dict[tuple[str, str], Entry]:
    """Entries of a round by row, see ``ROWS``, and arm."""
    own = {job.key for run in plan.values() for job in (run.fit, *run.stages.values()) if job is not None}
    entries: dict[tuple[str, str], Entry] = {}
    for arm in settings.arms if round_ else [settings.first]:
        metrics: dict[str, dict[int, Metric]] = {name: {} for name in ROWS}
        missing = {}
        for seed in settings.seeds:
            last = plan[method_name(arm, round_), seed].stages[settings.last_stage]
            jobs = [job for job in with_inputs([last]) if job.key in own]
            if unfinished := [job.name for job in jobs if job.state != "done"]:
                missing[seed] = f"not finished: {unfinished[0]}"
                continue
            for name, verb in zip(ROWS, ("fit", "posttrain"), strict=True):
                total = sum(_size(job) for job in jobs if job.verb == verb)
                metrics[name][seed] = Metric(np.array([float(total)]), None)
        entries |= {(name, arm): Entry(metrics[name], missing) for name in ROWS}
    return entries


def _size(job: Job) -> int:
    """Tokens that a mid-training was trained on, or examples and answers of a stage on one device."""
    record: dict[str, Any] = json.loads((job.result / RECORD).read_text())
    if job.verb == "fit":
        return int(record["cost"]["tokens"])
    training = OmegaConf.load(job.result / CONFIG).training
    return int(record["results"]["steps"] * training.batch_size * training.accumulate)
