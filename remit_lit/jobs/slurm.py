"""Jobs on a cluster: each is one of SLURM's, submitted once its inputs are done and watched until it ends."""

import shlex
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from remit_lit.errors import ConfigError
from remit_lit.files import make_directory
from remit_lit.jobs.cluster import Resources, SlurmSettings
from remit_lit.jobs.job import Job
from remit_lit.jobs.slurm_queue import Queued, read_queue, require_slurm
from remit_lit.jobs.worker import work_on_cluster


@dataclass
class _Watched:
    """How often a job was submitted, what SLURM said last, and whether it had ended then without a record."""

    tries: int = 1
    last: Queued | None = None
    is_over: bool = False


class SlurmCrew:
    """The crew of a cluster. What is in the queue stays there on leaving; the next command finds it again.

    A job of SLURM's carries the folder of ours as its comment. SLURM puts those back into the queue that it preempts or
    whose node fails, and a fit that was warned does so itself. One that ended otherwise without a result is submitted
    again, but for one that was cancelled.

    Args:
        settings: what jobs ask for.
        report: takes a line for each change of a job's state.

    Raises:
        ConfigError: settings that are wrong, or there is no SLURM here.
        ModuleNotFoundError: submitit is not installed.
    """

    def __init__(self, settings: SlurmSettings, report: Callable[[str], None]) -> None:
        import submitit  # noqa: F401 - missed here, and not once jobs wait

        settings.check_all()
        require_slurm()
        self._settings, self._report = settings, report
        self._watched: dict[Job, _Watched] = {}

    @property
    def running(self) -> Collection[Job]:
        """Jobs in the queue."""
        return self._watched

    def start(self, job: Job) -> None:
        """Put a job into the queue, unless it is there already.

        Raises:
            ConfigError: SLURM refuses it, with its reason.
        """
        queued = self._queue().get(_comment(job))
        if queued is None or queued.is_over:
            self._submit(job)
        self._watched[job] = _Watched()

    def _queue(self) -> dict[str, Queued]:
        """SLURM's, once it answers: without it a job could be submitted twice."""
        queue = read_queue()
        if queue is None:
            self._report("squeue does not answer; it is asked until it does")
        while queue is None:
            time.sleep(self._settings.poll_seconds)
            queue = read_queue()
        return queue

    def _submit(self, job: Job) -> None:
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        make_directory(job.folder)
        job.forget_failure()
        resources = self._settings.of(job.verb)
        several = (resources.nodes or 1) * (resources.tasks or 1) > 1
        # A lone process takes the batch script's place, where a signal reaches it and not its data workers.
        python = shlex.quote(sys.executable) if several else f"exec {shlex.quote(sys.executable)}"
        executor = submitit.SlurmExecutor(job.folder.absolute() / "slurm", python=python)
        executor.update_parameters(
            **_parameters(resources),
            job_name=job.name,
            setup=self._settings.setup,
            stderr_to_stdout=True,
            use_srun=several,
            srun_args=["--kill-on-bad-exit=1"],
            additional_parameters={
                "comment": _comment(job),
                "requeue": True,
                "signal": f"{'' if several else 'B:'}USR1@{self._settings.warning_seconds}",
                **resources.options,
            },
        )
        try:
            executor.submit(work_on_cluster, job, self._settings.requeues)
        except (FailedJobError, FailedSubmissionError) as error:
            said = [line for line in str(error).splitlines() if line.startswith("sbatch: ")]
            raise ConfigError(f"slurm: SLURM refuses {job.name}: {' '.join(said) or error}") from error

    def wait(self) -> list[tuple[Job, str]]:
        """Until some jobs ended: those, each with what SLURM says of its end."""
        while True:
            ended = self._look()
            if ended:
                return ended
            time.sleep(self._settings.poll_seconds)

    def _look(self) -> list[tuple[Job, str]]:
        queue = self._queue()
        ends = {job: self._end_of(job, queue.get(_comment(job))) for job in list(self._watched)}
        ended = [(job, end) for job, end in ends.items() if end is not None]
        for job, _ in ended:
            del self._watched[job]
        return ended

    def _end_of(self, job: Job, queued: Queued | None) -> str | None:
        """How a job ended; None while it has not."""
        watched = self._watched[job]
        if queued is not None and not queued.is_over:
            if watched.last is None or queued.number != watched.last.number:
                self._report(f"{job.name}: {queued}")
            elif queued.state != watched.last.state:
                again = "back in the queue, " if queued.state == "PENDING" else ""
                self._report(f"{job.name}: {again}{queued}")
            watched.last, watched.is_over = queued, False
            return None
        watched.last = queued or watched.last
        _refresh(job.folder)
        if job.state in ("done", "failed"):
            return ""
        if watched.last is not None and watched.last.state == "CANCELLED":
            return str(watched.last)
        if not watched.is_over:  # a record may still be on its way through the file system: look once more
            watched.is_over = True
            return None
        how = watched.last or "SLURM knows nothing of it"
        if watched.tries == self._settings.tries:
            return f"it ended without a result, {watched.tries} times: {how}"
        self._report(f"{job.name}: {how}, without a result; it is submitted again")
        self._submit(job)
        self._watched[job] = _Watched(watched.tries + 1)
        return None

    def __enter__(self) -> "SlurmCrew":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        queue = read_queue() or {} if self._watched else {}
        numbers = [str(queue[_comment(job)].number) for job in self._watched if _comment(job) in queue]
        if numbers:
            self._report(
                f"{len(numbers)} jobs stay in the queue: the same command finds them there, and `scancel "
                f"{' '.join(numbers)}` ends them"
            )


def states(jobs: Collection[Job]) -> dict[str, str]:
    """What SLURM says of those that are in its queue, by key; nothing where there is no SLURM."""
    queue = read_queue() or {}
    found = {job.key: queue.get(_comment(job)) for job in jobs}
    return {key: str(queued) for key, queued in found.items() if queued is not None and not queued.is_over}


def _comment(job: Job) -> str:
    return str(job.folder.absolute())


def _parameters(resources: Resources) -> dict[str, object]:
    """By submitit's names; None leaves an option out, where submitit has defaults of its own."""
    return {
        "partition": resources.partition,
        "nodes": resources.nodes or 1,
        "gpus_per_node": resources.gpus or None,
        "ntasks_per_node": resources.tasks,
        "cpus_per_task": resources.cpus,
        "mem": None if resources.memory is None else f"{round(resources.memory * 1024)}MB",
        "time": resources.minutes,
        "wckey": None,
    }


def _refresh(folder: Path) -> None:
    """Have a network file system ask its server what is in the folder."""
    if folder.exists():
        folder.chmod(folder.stat().st_mode)
