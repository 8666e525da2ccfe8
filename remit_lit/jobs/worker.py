"""The process in which a job's command runs."""

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
from pathlib import Path

from remit_lit.errors import Preempted
from remit_lit.jobs.job import Job


def work(job: Job) -> None:
    """Run the job's command, unless another process does or did, and record how it ended."""
    # This process was forked from a server: its data workers are forked from it, as those of a command line are.
    multiprocessing.set_start_method(None, force=True)
    os.setsid()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    job.folder.mkdir(parents=True, exist_ok=True)
    with open(job.folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if job.state == "done":
            return
        job.begin()
        printed = job.log.stat().st_size if job.log.exists() else 0
        began = time.perf_counter()
        with job.log.open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        code = _run(job.arguments)
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        cpu_seconds = sum(used.ru_utime + used.ru_stime for used in usage)
        error = job.lack if code == 0 else f"exit code {code}: {reason(job.log, printed)}"
        job.end(error, seconds=time.perf_counter() - began, cpu_seconds=cpu_seconds)


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
