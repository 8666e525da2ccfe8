"""The process in which a job's command runs, or the commands of several jobs in turn, here or on a cluster."""

import contextlib
import fcntl
import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
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


def work_on_cluster(job: Job, requeues: int) -> None:
    """Run the job's command as a job of SLURM's, in each of its processes; the first one records how it ended.

    A preempted command goes back into the queue, ``requeues`` times.

    Raises:
        SystemExit: with the command's exit code where it is not 0, so that SLURM ends the other processes.
    """
    for number in (signal.SIGTERM, signal.SIGCONT, signal.SIGUSR2):  # submitit's handlers
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # but by verbs that can save
    if int(os.environ.get("SLURM_PROCID", 0)):
        code = 0 if job.state == "done" else _run(job.arguments)
    elif int(os.environ.get("SLURM_RESTART_COUNT", 0)) < requeues:
        code = _do(job, is_requeued=True)
        if code == Preempted.exit_code:
            # Refused where SLURM, which preempted it, has done so before.
            subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)
    else:
        code = _do(job)
    if code:
        raise SystemExit(code)


def _begin() -> None:
    # This process was forked from a server: its data workers are forked from it, as those of a command line are.
    multiprocessing.set_start_method(None, force=True)
    os.setsid()
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _do(job: Job, *, is_requeued: bool = False) -> int:
    """Run the job's command and record how it ended, but for one that was preempted and is to go on."""
    make_directory(job.folder)
    with open(job.folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if job.state == "done":
            return 0
        job.begin()
        printed = job.log.stat().st_size if job.log.exists() else 0
        began, used = time.perf_counter(), _cpu_seconds()
        with job.log.open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        code = _run(job.arguments)
        error = None if code == 0 else f"exit code {code}: {reason(job.log, printed)}"
        if code != Preempted.exit_code or not is_requeued:
            job.end(error, seconds=time.perf_counter() - began, cpu_seconds=_cpu_seconds() - used)
        return code


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
