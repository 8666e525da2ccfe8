"""The processes that run jobs here: one for each job, or some that take one job after the other."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType

from remit_lit.jobs.job import Job
from remit_lit.jobs.worker import work, work_in_turn
from remit_lit.verbs import VERBS


@dataclass(frozen=True)
class _Worker:
    """A process, and where it takes jobs from and answers; None where it has its only one."""

    process: BaseProcess
    jobs: Connection | None = None


class Processes:
    """The crew of this machine; on leaving, all of its processes are killed.

    Args:
        at_once: jobs at a time; they share the cores.
        modules: what the jobs' verbs import: once, by the server that each process is forked from.
        shared: whether jobs whose verb allows it share processes.
    """

    def __init__(self, at_once: int, modules: Sequence[str], shared: bool) -> None:
        self.shared = shared
        self._running: dict[Job, _Worker] = {}
        self._idle: list[_Worker] = []
        self._cores = _share_of_cores(at_once)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(modules))

    @property
    def running(self) -> Collection[Job]:
        """Jobs that were started and have not ended."""
        return self._running

    def start(self, job: Job) -> None:
        """Start a job now."""
        if self.shared and VERBS[job.verb].repeats:
            worker = self._idle.pop() if self._idle else self._hire()
            self._running[job] = worker
            assert worker.jobs is not None
            worker.jobs.send(job)
        else:
            worker = self._running[job] = _Worker(self._context.Process(target=work, args=(job,), name=job.name))
            worker.process.start()

    def _hire(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        worker = _Worker(self._context.Process(target=work_in_turn, args=(theirs,)), ours)
        worker.process.start()
        theirs.close()
        return worker

    def wait(self) -> list[tuple[Job, str]]:
        """Until some jobs ended: those, each with what became of its process."""
        signs = [sign for worker in self._running.values() for sign in (worker.process.sentinel, worker.jobs) if sign]
        connection.wait(signs)
        ended = [job for job, worker in self._running.items() if _has_ended(worker)]
        codes = [self._release(self._running.pop(job)) for job in ended]
        return [(job, f"its process died with exit code {code}") for job, code in zip(ended, codes, strict=True)]

    def _release(self, worker: _Worker) -> int | None:
        goes_on = False
        if worker.jobs is not None:
            with contextlib.suppress(EOFError, OSError):  # it died
                goes_on = worker.jobs.recv()
        if goes_on:
            self._idle.append(worker)
            return None
        if worker.jobs is not None:
            worker.jobs.close()
        worker.process.join()
        return worker.process.exitcode

    def __enter__(self) -> "Processes":
        self._cores.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for worker in (*self._running.values(), *self._idle):
            _kill(worker.process)
        self._cores.__exit__(None, None, None)


def _has_ended(worker: _Worker) -> bool:
    return not worker.process.is_alive() or (worker.jobs is not None and worker.jobs.poll())


def _kill(process: BaseProcess) -> None:
    assert process.pid is not None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.join()


@contextlib.contextmanager
def _share_of_cores(at_once: int) -> Iterator[None]:
    given = os.environ.get("OMP_NUM_THREADS")
    if given is None:
        os.environ["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // at_once))
    try:
        yield
    finally:
        if given is None:
            del os.environ["OMP_NUM_THREADS"]
