"""Tokenised documents on disk, in parts that are taken one by one and leave the disk as they are taken."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from remit_lit.files import sync

_ITEM = np.dtype(np.int32)  # of tokens and of lengths


@dataclass(frozen=True, eq=False)
class Records:
    """What was read, in order, a record each.

    Attributes:
        lengths: tokens of each document, 0 of one that is left out, int32 [records].
        bytes: UTF-8 bytes of its text, 0 of a record that was skipped, int64 [records].
        parts: part of the segment that it belongs to, int32 [records].
    """

    lengths: np.ndarray
    bytes: np.ndarray
    parts: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, chosen: slice | np.ndarray) -> "Records":
        return Records(self.lengths[chosen], self.bytes[chosen], self.parts[chosen])


class Segment:
    """Documents of one shard: a file of their tokens and one of their lengths, both sorted by part.

    The parts are taken from the last one on, and what is taken is cut off the files.

    Args:
        path: of the file of tokens, int32 without a header.
        records: of the segment, in the order in which they were read.
        num_parts: one more than the highest part.

    Attributes:
        path: of the file of tokens.
        records: of the segment.
        num_parts: of parts, also of empty ones.
    """

    def __init__(self, path: Path, records: Records, num_parts: int) -> None:
        self.path, self.records, self.num_parts = path, records, num_parts
        self._lengths_path = _lengths_of(path)
        self._documents = np.bincount(records.parts[records.lengths > 0], minlength=num_parts)
        self._tokens = np.bincount(records.parts, records.lengths, minlength=num_parts).astype(np.int64)

    @classmethod
    def write(cls, path: Path, tokens: np.ndarray, records: Records, num_parts: int) -> "Segment":
        """Write a segment.

        Args:
            path: to write to.
            tokens: of all documents in the order of ``records``, int32 [tokens].
            records: in the order in which they were read.
            num_parts: one more than the highest part.
        """
        order = np.argsort(records.parts, kind="stable")
        gathered(tokens, starts_of(records.lengths)[order], records.lengths[order]).tofile(path)
        lengths = records.lengths[order]
        lengths[lengths > 0].astype(_ITEM).tofile(_lengths_of(path))
        return cls(path, records, num_parts)

    @property
    def is_whole(self) -> bool:
        """Whether its files are there, and nothing of them is missing."""
        sizes = {self.path: self._tokens.sum(), self._lengths_path: self._documents.sum()}
        return all(path.is_file() and path.stat().st_size == _ITEM.itemsize * size for path, size in sizes.items())

    def sync(self) -> None:
        """Wait until its files are on the disk."""
        sync(self.path)
        sync(self._lengths_path)

    def forget_records(self) -> None:
        """Keep the sizes of the parts only."""
        self.records = self.records[:0]

    def open(self) -> np.ndarray:
        """The tokens of all parts, memory-mapped, int32 [tokens]."""
        return np.memmap(self.path, _ITEM, mode="r") if self._tokens.any() else np.zeros(0, _ITEM)

    def pop(self) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of the last part, int32 [tokens], and lengths of its documents, int32 [documents]."""
        tokens = _cut_off(self.path, int(self._tokens[-1]))
        lengths = _cut_off(self._lengths_path, int(self._documents[-1]))
        self._tokens, self._documents = self._tokens[:-1], self._documents[:-1]
        return tokens, lengths

    def split(self, number: int) -> tuple["Segment", "Segment"]:
        """The first ``number`` records, and the others; this segment is no more."""
        records, order = self.records, np.argsort(self.records.parts, kind="stable")
        starts = np.empty(len(records), np.int64)
        starts[order] = starts_of(records.lengths[order])
        stored, halves = self.open(), []
        for name, chosen in (("a", slice(None, number)), ("b", slice(number, None))):
            tokens = gathered(stored, starts[chosen], records.lengths[chosen])
            path = self.path.with_name(f"{self.path.name}{name}")
            halves.append(Segment.write(path, tokens, records[chosen], self.num_parts))
        self.remove()
        return halves[0], halves[1]

    def remove(self) -> None:
        """Remove the files."""
        self.path.unlink()
        self._lengths_path.unlink()


def _lengths_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.lengths")


def starts_of(lengths: np.ndarray) -> np.ndarray:
    """Place of the first token of each document, int64 [documents]."""
    return np.cumsum(lengths, dtype=np.int64) - lengths


def gathered(tokens: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Documents one after the other, int32 [sum of lengths], from where they start, each [documents]."""
    pieces = [tokens[start : start + length] for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)]
    return np.concatenate([np.zeros(0, _ITEM), *pieces])


def _cut_off(path: Path, count: int) -> np.ndarray:
    """The last ``count`` numbers of a file, which loses them."""
    if not count:
        return np.zeros(0, _ITEM)
    offset = path.stat().st_size - count * _ITEM.itemsize
    values = np.fromfile(path, _ITEM, count, offset=offset)
    os.truncate(path, offset)
    return values
