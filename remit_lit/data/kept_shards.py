"""Tokenised shards that are whole on the disk: who goes on from a run that was stopped need not read them again."""

import io
import zipfile
from pathlib import Path

import numpy as np

from remit_lit.data.segments import Records, Segment
from remit_lit.files import write_whole

_SUFFIX = ".shard.npz"


def keep(directory: Path, name: str, segments: list[Segment]) -> None:
    """Record that a shard is whole.

    Args:
        directory: of its segments.
        name: of the shard, which those of its segments begin with, as :func:`segment_path` has it.
        segments: in order.
    """
    for segment in segments:
        segment.sync()
    records = [segment.records for segment in segments]
    written = io.BytesIO()
    np.savez_compressed(
        written,
        sizes=np.array([len(each) for each in records], np.int64),
        num_parts=np.array(segments[0].num_parts, np.int64),
        lengths=np.concatenate([each.lengths for each in records]),
        bytes=np.concatenate([each.bytes for each in records]),
        parts=np.concatenate([each.parts for each in records]),
    )
    write_whole(directory / f"{name}{_SUFFIX}", written.getvalue())


def find(directory: Path, name: str) -> list[Segment] | None:
    """The segments of a shard; None unless all of them are whole."""
    try:
        with np.load(directory / f"{name}{_SUFFIX}") as stored:
            ends = np.cumsum(stored["sizes"])[:-1]
            columns = [np.split(stored[column], ends) for column in ("lengths", "bytes", "parts")]
            num_parts = int(stored["num_parts"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # there is none, or it is damaged
        return None
    segments = [
        Segment(segment_path(directory, name, number), Records(*each), num_parts)
        for number, each in enumerate(zip(*columns, strict=True))
    ]
    return segments if all(segment.is_whole for segment in segments) else None


def number_of(directory: Path) -> int:
    """How many shards are recorded."""
    return sum(1 for _ in directory.glob(f"*{_SUFFIX}"))


def segment_path(directory: Path, name: str, number: int) -> Path:
    """Where a segment of a shard lies."""
    return directory / f"{name}-{number}"
