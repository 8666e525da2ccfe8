"""The process in which a cell's command runs."""

import contextlib
import fcntl
import importlib.util
import os
import resource
import signal
import sys
import threading
import time
import traceback
from multiprocessing import connection, parent_process
from pathlib import Path

from remit_lit.jobs.job import Cell

# Imported once, by the server that each cell's process is forked from.
PRELOAD = [
    "remit_lit.cli.training",
    "remit_lit.evaluation.evaluate",
    "remit_lit.posttraining.posttrain",
    "remit_lit.jobs.worker",
]


def work(cell: Cell) -> None:
    """Run the cell's command, unless another process does or did, and record how it ended."""
    os.setsid()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    cell.folder.mkdir(parents=True, exist_ok=True)
    with open(cell.folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if cell.state == "done":
            return
        cell.begin()
        printed = cell.log.stat().st_size if cell.log.exists() else 0
        began = time.perf_counter()
        with cell.log.open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        code = _run(cell.arguments)
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        cpu_seconds = sum(used.ru_utime + used.ru_stime for used in usage)
        error = None if code == 0 else f"exit code {code}: {reason(cell.log, printed)}"
        cell.end(error, seconds=time.perf_counter() - began, cpu_seconds=cpu_seconds)


def reason(log: Path, start: int = 0) -> str:
    """Why a command failed: its message, or else the last line that it printed, from byte ``start`` of the log on."""
    printed = log.read_bytes()[start:].decode(errors="replace")
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    messages = [line for line in lines if line.startswith("error: ")]
    return (messages or lines or ["it printed nothing"])[-1].removeprefix("error: ")[:500]


def _run(arguments: list[str]) -> int:
    from remit_lit.cli.dispatch import main

    # As `python -m remit_lit` would have it, for launchers that start the same command once more on another device.
    sys.argv = ["remit_lit", *arguments]
    sys.modules["__main__"].__spec__ = importlib.util.find_spec("remit_lit.__main__")
    try:
        main(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
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
