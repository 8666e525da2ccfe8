"""``evaluations.jsonl``: the evaluations of a policy in the course of its training, one a line."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from remit_lit.errors import DataError
from remit_lit.files import write_whole

HISTORY = "evaluations.jsonl"


@dataclass(frozen=True)
class Evaluated:
    """One point of a learning curve.

    Attributes:
        global_step: optimizer steps that made the weights.
        tokens: number of tokens trained on by then.
        figures: by ``TASK/METRIC``, e.g. ``lab/accuracy``.
    """

    global_step: int
    tokens: int
    figures: Mapping[str, float]


def read_history(run_dir: str | Path) -> list[Evaluated]:
    """All points of a run in order; none if it was never evaluated.

    Raises:
        DataError: the file is damaged.
    """
    path = Path(run_dir, HISTORY)
    if not path.exists():
        return []
    # A line without an end was cut off with the process that wrote it.
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    try:
        return [Evaluated(**json.loads(line)) for line in lines]
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged, or is not a history of evaluations ({error}); remove it") from error


def add_to_history(run_dir: str | Path, point: Evaluated) -> None:
    """Append a point."""
    with open(Path(run_dir, HISTORY), "a") as stream:
        stream.write(_line(point))


def write_history(run_dir: str | Path, points: Iterable[Evaluated]) -> None:
    """Replace the file, as a whole or not at all."""
    path = Path(run_dir, HISTORY)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "".join(map(_line, points)))


def _line(point: Evaluated) -> str:
    return json.dumps(asdict(point)) + "\n"
