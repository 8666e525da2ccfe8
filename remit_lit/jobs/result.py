"""Whether a job's result is what its command left: its files are noted at the end, and compared before use."""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from remit_lit.files import sync
from remit_lit.runs.folder import CHECKPOINTS

Notes = Mapping[str, tuple[int, str]]

_HASHED_BYTES = 2**20  # of larger files, such as a model's, the size must do


def note(result: Path) -> Notes:
    """Bring a result to the disk and note its files.

    Returns:
        By path in ``result``: bytes, and of a small file its hash. What may be removed to save room is left out:
        checkpoints, and events for TensorBoard.
    """
    notes = {}
    for path in sorted(result.rglob("*")):
        name = path.relative_to(result)
        if CHECKPOINTS in name.parts or "tfevents" in path.name:
            continue
        if path.is_file():
            notes[str(name)] = _facts(path)
        if path.exists():
            sync(path)
    sync(result)
    return notes


def damage_of(result: Path, notes: Notes) -> str | None:
    """Which file is not as it was noted, and how; None where all are. Files that were added do not count."""
    for name, noted in notes.items():
        path = result / name
        try:
            found = _facts(path)
        except OSError:
            return f"{path} is missing"
        if found != tuple(noted):
            size = f"{found[0]:,} bytes where {noted[0]:,} were written"
            return f"{path} has {'other contents' if found[0] == noted[0] else size}"
    return None


def _facts(path: Path) -> tuple[int, str]:
    stat = path.stat()
    return stat.st_size, _digest(path, stat.st_size, stat.st_mtime_ns) if stat.st_size <= _HASHED_BYTES else ""


@cache  # jobs are asked for their state many times while others run
def _digest(path: Path, size: int, changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
