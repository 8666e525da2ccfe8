"""What a set of jobs is about to do, and the record of what it did."""

import json
import math
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from remit_lit.errors import DataError
from remit_lit.files import write_whole
from remit_lit.jobs.calibration import shipped
from remit_lit.jobs.cluster import SlurmSettings
from remit_lit.jobs.job import Job, lineage, with_inputs
from remit_lit.jobs.scheduler import describe, estimated_seconds
from remit_lit.jobs.slurm import states
from remit_lit.runs.provenance import now, provenance

RECORD = "record.json"


def write_record(output: Path, jobs: Iterable[Job], **facts: Any) -> None:
    """Write ``record.json``: command, versions, machine, ``facts``, of each job what decided it and what it took."""
    record = {
        **provenance(("torch", "transformers", "lightning", "scipy")),
        "machine": {"platform": platform.platform(), "cores": len(os.sched_getaffinity(0))},
        "ended": now(),
        **facts,
        "jobs": lineage(jobs),
    }
    write_whole(output / RECORD, json.dumps(record, indent=1, default=str) + "\n")


def require_done(jobs: Iterable[Job]) -> None:
    """Refuse to call a study finished of which jobs failed; said last, after all that it found.

    Raises:
        DataError: naming how many failed, and the first of them with its reason and log.
    """
    jobs = with_inputs(jobs)
    failed = [job for job in jobs if job.state != "done"]
    if failed:
        raise DataError(f"{len(failed)} of {len(jobs)} jobs failed, {failed[0].name} first. {describe(failed[0])}")


def print_plan(jobs: Iterable[Job], at_once: int | None, console: Console, slurm: SlurmSettings | None = None) -> None:
    """Each job with its state, of the cluster too, and what it may take.

    That is what others of its kind took here; where none has run yet, what they took where the package was calibrated.
    """
    jobs = with_inputs(jobs)
    seconds = estimated_seconds(jobs)
    calibrated = {job.key: shipped().of(job.kind) for job in jobs if seconds.get(job.key, 0) is None}
    queued: Mapping[str, str] = {} if slurm is None else states(jobs)
    shown = Table("job", "state", "seconds")
    for job in jobs:
        shown.add_row(job.name, queued.get(job.key, job.state), _expected(job.key, seconds, calibrated))
    console.print(shown)
    at_once, elsewhere = at_once or 1, [value for value in calibrated.values() if value is not None]
    known = sum(value for value in seconds.values() if value is not None) + sum(elsewhere)
    unknown = sum(value is None for value in calibrated.values())
    parts = [f"about {math.ceil(known / at_once / 60)} minutes with {at_once} at a time"] if known else []
    parts += [f"{len(elsewhere)} of them calibrated ({shipped().source})"] if elsewhere else []
    parts += [f"{unknown} of kinds that have never run here"] if unknown else []
    console.print(
        f"{len(jobs)} jobs, {len(seconds)} to run: {', and '.join(parts) or 'nothing'}", highlight=False, soft_wrap=True
    )


def _expected(key: str, seconds: Mapping[str, float | None], calibrated: Mapping[str, float | None]) -> str:
    if key not in seconds:
        return ""
    if (here := seconds[key]) is not None:
        return f"{here:.0f}"
    return "unknown" if (elsewhere := calibrated[key]) is None else f"{elsewhere:.0f} (calibrated)"
