"""``metrics.csv``: the figures that a run logged, step by step, over all its interruptions."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from remit_lit.errors import DataError
from remit_lit.runs.folder import METRICS

Points = list[tuple[int, float]]
"""(step, value) of each step at which a figure was logged, in order."""
_STEP = "step"


def read_metrics(run_dir: str | Path, name: str) -> Points:
    """What was logged of one figure; none if it never was.

    Raises:
        DataError: see :func:`read_all_metrics`.
    """
    return read_all_metrics(run_dir, name).get(name, [])


def read_all_metrics(run_dir: str | Path, *names: str) -> dict[str, Points]:
    """What was logged, by figure; of ``names`` alone where there are any.

    What an interrupted run logged lies in ``metrics-1.csv`` and so on; of a step that was done again, the later counts.
    A last line without an end was cut off with the process that wrote it, and does not count.

    Raises:
        DataError: a file is damaged.
    """
    folder, found = Path(run_dir), dict[str, dict[int, float]]()
    earlier = sorted(folder.glob("metrics-*.csv"), key=lambda path: int(path.stem.split("-")[1]))
    for path in (*earlier, folder / METRICS):
        if not path.exists():
            continue
        try:
            for line in _lines(path):
                step = int(line[_STEP])
                for name in names or line:
                    if name != _STEP and line.get(name):
                        found.setdefault(name, {})[step] = float(line[name])
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise DataError(f"{path} is no log of a run, or is damaged ({error!r})") from error
    return {name: sorted(values.items()) for name, values in found.items()}


def _lines(path: Path) -> Iterator[Mapping[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        yield from csv.DictReader(line for line in stream if line.endswith("\n"))
