"""The CPU seconds of jobs that have run on this machine, as a fresh clone's dry runs take them for defaults."""

import os
import statistics
from pathlib import Path

from remit_lit import __version__
from remit_lit.errors import DataError
from remit_lit.jobs.calibration import Calibration
from remit_lit.jobs.scheduler import finished


def calibrate(cells: Path) -> Calibration:
    """What the finished jobs of a folder took.

    Args:
        cells: the folder that keeps them.

    Raises:
        DataError: there are none.
    """
    outcomes = [outcome for outcome in finished(cells) if "cpu_seconds" in outcome]
    if not outcomes:
        raise DataError(f"cells: {cells} has no job that ended well; run a table there first")
    seconds: dict[str, list[float]] = {}
    for outcome in outcomes:
        seconds.setdefault(outcome["kind"], []).append(outcome["cpu_seconds"])
    return Calibration(
        machine=f"{len(os.sched_getaffinity(0))} cores of an {_processor()}",
        date=max(outcome["ended"] for outcome in outcomes)[: len("2026-01-31")],
        version=__version__,
        cpu_seconds={kind: round(statistics.median(of_kind), 2) for kind, of_kind in seconds.items()},
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown processor")
