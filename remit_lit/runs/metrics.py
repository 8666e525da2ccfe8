"""``metrics.csv``: the figures that a run logged, step by step, over all its interruptions."""

import csv
from pathlib import Path

from remit_lit.errors import DataError
from remit_lit.runs.folder import METRICS


def read_metrics(run_dir: str | Path, name: str) -> list[tuple[int, float]]:
    """(step, value) of each step at which the figure was logged, in order; none if it never was.

    What an interrupted run logged lies in ``metrics-1.csv`` and so on; of a step that was done again, the later counts.

    Raises:
        DataError: a file is damaged.
    """
    folder, values = Path(run_dir), dict[int, float]()
    earlier = sorted(folder.glob("metrics-*.csv"), key=lambda path: int(path.stem.split("-")[1]))
    for path in (*earlier, folder / METRICS):
        if not path.exists():
            continue
        try:
            with open(path, newline="") as stream:
                values |= {int(line["step"]): float(line[name]) for line in csv.DictReader(stream) if line.get(name)}
        except (ValueError, KeyError) as error:
            raise DataError(f"{path} is no log of a run, or is damaged ({error!r})") from error
    return sorted(values.items())
