"""Runs jobs, several at a time, each once its inputs are done."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from remit_lit.errors import ConfigError
from remit_lit.files import make_directory
from remit_lit.jobs.cluster import SlurmSettings
from remit_lit.jobs.crew import Crew
from remit_lit.jobs.job import Job, read_outcome, with_inputs
from remit_lit.jobs.processes import Processes
from remit_lit.jobs.slurm import SlurmCrew
from remit_lit.jobs.worker import work
from remit_lit.verbs import VERBS

Report = Callable[[str], None]
Check = Callable[[Sequence[Job]], None]
"""Refuses jobs, before the first of them runs, that would be refused by the command that they are."""


def run_jobs(
    jobs: Sequence[Job],
    at_once: int | None,
    report: Report = print,
    *,
    share_process: bool = False,
    slurm: SlurmSettings | None = None,
) -> None:
    """Run what is not done yet, inputs first. A job that fails does not stop those that do not need it.

    Finished jobs are left alone, interrupted ones go on, failed ones are tried again.

    Args:
        jobs: the jobs that are wanted; what they need is run too.
        at_once: jobs at a time; on this machine they share the cores. None: one here, and all that are ready on a
            cluster.
        report: takes a line for each job that ends.
        share_process: run the commands of verbs that allow it one after the other in ``at_once`` processes, which then
            import what they need once. For runs of seconds on a CPU of this machine.
        slurm: what to ask a cluster for that runs the jobs; None: this machine runs them.

    Raises:
        ConfigError: ``at_once`` is below 1; there is no cluster, or it refuses a job.
    """
    if at_once is not None and at_once < 1:
        raise ConfigError(f"jobs: got {at_once}; give at least 1")
    waiting = [job for job in with_inputs(jobs) if job.state != "done"]
    total, failed = len(waiting), set[str]()
    at_once = at_once or (1 if slurm is None else max(1, total))
    with _crew(waiting, at_once, report, share_process, slurm) as crew:
        while waiting or crew.running:
            ended = _give_up(waiting, failed)
            for job in [job for job in waiting if _is_ready(job)][: at_once - len(crew.running)]:
                waiting.remove(job)
                crew.start(job)
            if crew.running and not ended:
                for job, end in crew.wait():
                    _finish(job, end, failed)
                    ended.append(job)
            for number, job in enumerate(reversed(ended)):
                report(f"[{total - len(waiting) - len(crew.running) - number}/{total}] {describe(job)}")


def _crew(jobs: Sequence[Job], at_once: int, report: Report, shared: bool, slurm: SlurmSettings | None) -> Crew:
    return Processes(at_once, _modules_of(jobs), shared) if slurm is None else SlurmCrew(slurm, report)


def _modules_of(jobs: Sequence[Job]) -> list[str]:
    """What the jobs' verbs import: once, by the server that each job's process is forked from."""
    verbs = [VERBS[name] for name in dict.fromkeys(job.verb for job in jobs)]
    functions = [verb.function.split(":")[0] for verb in verbs]
    # Most verbs import these as late as they can: a second of each job.
    packages = [name.replace("-", "_") for verb in verbs for name in verb.packages]
    late = [name for verb in verbs for name in verb.late]
    return [*dict.fromkeys([*functions, *packages, *late]), work.__module__]


def describe(job: Job) -> str:
    """A line for people: how the job ended, and where its log lies if it failed."""
    if job.state == "done":
        return f"{job.name}: {job.outcome['seconds']:.0f} s"
    return f"{job.name}: {job.state}, {job.outcome.get('error', job.damage)}; its log: {job.log}"


def estimated_seconds(jobs: Sequence[Job]) -> dict[str, float | None]:
    """What each job that is not done may take, by its key: the median of finished ones of its kind; None: unknown."""
    jobs = with_inputs(jobs)
    seconds: dict[str, list[float]] = {}
    for root in {job.root for job in jobs}:
        for done in finished(root):
            seconds.setdefault(done["kind"], []).append(done["seconds"])
    return {
        job.key: statistics.median(seconds[job.kind]) if job.kind in seconds else None
        for job in jobs
        if job.state != "done"
    }


def finished(root: Path) -> list[dict[str, Any]]:
    """How each finished job below a directory of jobs ended: its ``kind``, ``seconds`` and more."""
    return [done for path in root.glob("*/done.json") if (done := read_outcome(path, "seconds"))]


def _is_ready(job: Job) -> bool:
    return all(needed.state == "done" for needed in job.inputs.values())


def _give_up(waiting: list[Job], failed: set[str]) -> list[Job]:
    """Take from ``waiting`` what needs a job that failed in this run."""
    blocked = []
    for job in list(waiting):
        failed_inputs = [needed for needed in job.inputs.values() if needed.key in failed]
        if failed_inputs:
            waiting.remove(job)
            failed.add(job.key)
            blocked.append(job)
            make_directory(job.folder)
            job.end(f"needs {failed_inputs[0].name}, which failed ({failed_inputs[0].outcome['error']})")
    return blocked


def _finish(job: Job, end: str, failed: set[str]) -> None:
    if job.state not in ("done", "failed"):
        job.end(end)
    if job.state == "failed":
        failed.add(job.key)
