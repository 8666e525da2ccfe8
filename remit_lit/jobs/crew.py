"""The processes that run jobs: one for each job, or some that take one job after the other."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Sequence
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


class Crew:
    """Starts jobs in processes and tells which ended; on leaving, all of its processes are killed.

    Args:
        modules: what the jobs' verbs import: once, by the server that each process is forked from.
        shared: whether jobs whose verb allows it share processes.
    """

    def __init__(self, modules: Sequence[str], shared: bool) -> None:
        self.shared = shared
        self.running: dict[Job, _Worker] = {}
        self._idle: list[_Worker] = []
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(modules))

    def start(self, job: Job) -> None:
        """Start a job now."""
        if self.shared and VERBS[job.verb].repeats:
            worker = self._idle.pop() if self._idle else self._hire()
            self.running[job] = worker
            assert worker.jobs is not None
            worker.jobs.send(job)
        else:
            worker = self.running[job] = _Worker(self._context.Process(target=work, args=(job,), name=job.name))
            worker.process.start()

    def _hire(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        worker = _Worker(self._context.Process(target=work_in_turn, args=(theirs,)), ours)
        worker.process.start()
        theirs.close()
        return worker

    def wait(self) -> list[tuple[Job, int | None]]:
        """Until some jobs ended: those, each with the exit code of its process where that is gone."""
        signs = [sign for worker in self.running.values() for sign in (worker.process.sentinel, worker.jobs) if sign]
        connection.wait(signs)
        ended = [job for job, worker in self.running.items() if _has_ended(worker)]
        return [(job, self._release(self.running.pop(job))) for job in ended]

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

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for worker in (*self.running.values(), *self._idle):
            _kill(worker.process)


def _has_ended(worker: _Worker) -> bool:
    return not worker.process.is_alive() or (worker.jobs is not None and worker.jobs.poll())


def _kill(process: BaseProcess) -> None:
    assert process.pid is not None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.join()
