"""The process in which a job's command runs, or the commands of several jobs in turn."""

import contextlib
import fcntl
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import threading
import time
import traceback
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from pathlib import Path

from remit_lit.errors import Preempted
from remit_lit.files import make_directory
from remit_lit.jobs.job import Job
from remit_lit.jobs.process_state import ProcessState


def work(job: Job) -> None:
    """Run the job's command, unless another process does or did, and record how it ended."""
    _begin()
    _do(job)


def work_in_turn(jobs: Connection) -> None:
    """Run the commands of the jobs that come, and answer each with whether this process takes another.

    Each begins in the state that the first one found. After a failure, of which nobody knows what it left behind, the
    process ends.
    """
    _begin()
    fresh, goes_on = ProcessState(), True
    while goes_on:
        try:
            job: Job = jobs.recv()
        except EOFError:  # there are no more
            return
        _do(job)
        goes_on = job.state == "done"
        fresh.restore()
        jobs.send(goes_on)


def _begin() -> None:
    # This process was forked from a server: its data workers are forked from it, as those of a command line are.
    multiprocessing.set_start_method(None, force=True)
    os.setsid()
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _do(job: Job) -> None:
    make_directory(job.folder)
    with open(job.folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if job.state == "done":
            return
        job.begin()
        printed = job.log.stat().st_size if job.log.exists() else 0
        began, used = time.perf_counter(), _cpu_seconds()
        with job.log.open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        code = _run(job.arguments)
        error = None if code == 0 else f"exit code {code}: {reason(job.log, printed)}"
        job.end(error, seconds=time.perf_counter() - began, cpu_seconds=_cpu_seconds() - used)


def _cpu_seconds() -> float:
    """Of this process, and of those that it started and that have ended."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in usage)


def reason(log: Path, start: int = 0) -> str:
    """Why a command failed: its message, or else the last line that it printed, from byte ``start`` of the log on."""
    printed = log.read_bytes()[start:].decode(errors="replace")
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    messages = [line for line in lines if line.startswith("error: ")]
    return (messages or lines or ["it printed nothing"])[-1].removeprefix("error: ")[:500]


def _run(arguments: list[str]) -> int:
    """``python -m remit_lit`` in this process, which has its imports already; returns the exit code."""
    sys.argv[1:] = arguments
    try:
        # As the interpreter's own -m does it: launchers read from `__main__` how to start the same command once more.
        runpy.run_module("remit_lit", run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        return Preempted.exit_code if stop.code is None else stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
    return 0


def _die_with_parent() -> None:
    """A command that outlived a killed table would write where the next one writes."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)
