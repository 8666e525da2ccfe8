"""Runs cells, several at a time, each once its inputs are done."""

import contextlib
import json
import multiprocessing
import os
import signal
import statistics
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess

from remit_lit.errors import ConfigError
from remit_lit.jobs.job import Cell, all_cells
from remit_lit.jobs.worker import PRELOAD, work

Report = Callable[[str], None]


def run_cells(cells: Sequence[Cell], jobs: int, report: Report = print) -> None:
    """Run what is not done yet, inputs first. A cell that fails does not stop those that do not need it.

    Finished cells are left alone, interrupted ones go on, failed ones are tried again.

    Args:
        cells: the cells that are wanted; what they need is run too.
        jobs: cells at a time; they share the cores.
        report: takes a line for each cell that ends.

    Raises:
        ConfigError: ``jobs`` is below 1.
    """
    if jobs < 1:
        raise ConfigError(f"jobs: got {jobs}; give at least 1")
    waiting = [cell for cell in all_cells(cells) if cell.state != "done"]
    total, failed = len(waiting), set[str]()
    running: dict[Cell, BaseProcess] = {}
    with _share_of_cores(jobs):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        try:
            while waiting or running:
                ended = _give_up(waiting, failed)
                for cell in [cell for cell in waiting if _is_ready(cell)][: jobs - len(running)]:
                    waiting.remove(cell)
                    running[cell] = context.Process(target=work, args=(cell,), name=cell.name)
                    running[cell].start()
                if running and not ended:
                    connection.wait([process.sentinel for process in running.values()])
                    ended = [cell for cell, process in running.items() if not process.is_alive()]
                    for cell in ended:
                        _finish(cell, running.pop(cell), failed)
                for number, cell in enumerate(reversed(ended)):
                    report(f"[{total - len(waiting) - len(running) - number}/{total}] {describe(cell)}")
        finally:
            for process in running.values():
                _kill(process)


def describe(cell: Cell) -> str:
    """A line for people: how the cell ended, and where its log lies if it failed."""
    if cell.state == "done":
        return f"{cell.name}: {cell.outcome['seconds']:.0f} s"
    return f"{cell.name}: {cell.state}, {cell.outcome['error']}; its log: {cell.log}"


def estimated_seconds(cells: Sequence[Cell]) -> dict[str, float | None]:
    """What each cell that is not done may take, by its key: the median of finished ones of its kind; None: unknown."""
    plan = all_cells(cells)
    seconds: dict[str, list[float]] = {}
    for root in {cell.root for cell in plan}:
        for path in root.glob("*/done.json"):
            done = json.loads(path.read_text())
            seconds.setdefault(done["kind"], []).append(done["seconds"])
    return {
        cell.key: statistics.median(seconds[cell.kind]) if cell.kind in seconds else None
        for cell in plan
        if cell.state != "done"
    }


def _is_ready(cell: Cell) -> bool:
    return all(needed.state == "done" for needed in cell.inputs.values())


def _give_up(waiting: list[Cell], failed: set[str]) -> list[Cell]:
    """Take from ``waiting`` what needs a cell that failed in this run."""
    lost = []
    for cell in list(waiting):
        broken = [needed for needed in cell.inputs.values() if needed.key in failed]
        if broken:
            waiting.remove(cell)
            failed.add(cell.key)
            lost.append(cell)
            cell.folder.mkdir(parents=True, exist_ok=True)
            cell.end(f"needs {broken[0].name}, which failed ({broken[0].outcome['error']})")
    return lost


def _finish(cell: Cell, process: BaseProcess, failed: set[str]) -> None:
    if cell.state not in ("done", "failed"):
        cell.end(f"its process died with exit code {process.exitcode}")
    if cell.state == "failed":
        failed.add(cell.key)


@contextlib.contextmanager
def _share_of_cores(jobs: int) -> Iterator[None]:
    given = os.environ.get("OMP_NUM_THREADS")
    if given is None:
        os.environ["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // jobs))
    try:
        yield
    finally:
        if given is None:
            del os.environ["OMP_NUM_THREADS"]


def _kill(process: BaseProcess) -> None:
    assert process.pid is not None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.join()
