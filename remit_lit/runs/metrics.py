"""``metrics.csv``: the figures that a run logged, step by step, over all its interruptions."""

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from remit_lit.errors import DataError
from remit_lit.files import write_whole
from remit_lit.runs.folder import METRICS, TIDY_METRICS, warn

Points = list[tuple[int, float]]
"""(step, value) of each step at which a figure was logged, in order."""
_STEP = "step"
_TIDY = (_STEP, "group", "source", "metric", "value")


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


def write_tidy_metrics(run_dir: str | Path) -> None:
    """Write what was logged once more, in ``tidy_metrics.csv`` with a line for each value, by step.

    Of ``train/nll/web`` the group is ``train``, the metric ``nll`` and the source ``web``; of ``eval/TASK/METRIC`` the
    source is the task. Whole numbers stand as they are, others with 6 significant digits. Nothing is written where
    nothing was logged in ``metrics.csv``, and of a damaged log there is a warning: no run fails for it.
    """
    try:
        logged = read_all_metrics(run_dir)
    except DataError as error:
        warn(f"{Path(run_dir, TIDY_METRICS)} was not written: {error}")
        return
    lines = [(step, name, value) for name, points in sorted(logged.items()) for step, value in points]
    if not lines:
        return
    stream = io.StringIO(newline="")
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(_TIDY)
    for step, name, value in sorted(lines, key=lambda line: line[0]):
        table.writerow((step, *_parts(name), _digits(value)))
    write_whole(Path(run_dir, TIDY_METRICS), stream.getvalue())


def _parts(name: str) -> tuple[str, str, str]:
    """Group, source and metric of a figure."""
    group, _, metric = name.rpartition("/") if name.count("/") < 2 else name.partition("/")
    first, slash, rest = metric.partition("/")
    if not slash:
        return group, "", metric
    return (group, rest, first) if first == "nll" else (group, first, rest)


def _digits(value: float) -> str:
    return f"{value:.0f}" if value.is_integer() else f"{value:.6g}"


def _lines(path: Path) -> Iterator[Mapping[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        yield from csv.DictReader(line for line in stream if line.endswith("\n"))
