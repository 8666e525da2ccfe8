"""A checksum of each row, beside the rows, compared whenever one is read: flipped bits are found before training."""

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from remit_lit.data.storage import local_copy
from remit_lit.errors import ConfigError, DataError

if TYPE_CHECKING:
    import datasets

_NAME = "checksums.npy"
ROW_FIELDS = ("input_ids", "document_lengths", "document_sources")
_DTYPES = (np.int32, np.int32, np.int16)  # that the fields are stored in, and hashed in


def write_checksums(directory: Path, rows: "datasets.Dataset") -> None:
    """Write the CRC-32 of each row, uint32 [rows], into the directory of a split."""
    checksums = np.empty(len(rows), np.uint32)
    start = 0
    for batch in rows.with_format("arrow").iter(1024):
        columns = [batch.column(name).to_pandas() for name in ROW_FIELDS]
        for place, fields in enumerate(zip(*columns, strict=True), start=start):
            checksums[place] = _checksum(*fields)
        start += len(batch)
    np.save(directory / _NAME, checksums)


def read_checksums(directory: Path) -> np.ndarray:
    """The checksums of a split, memory-mapped, uint32 [rows].

    Raises:
        ConfigError: an earlier version made the rows.
        DataError: the file is damaged.
    """
    path = directory / _NAME
    try:
        copy = local_copy(path)
    except FileNotFoundError:
        raise ConfigError(
            f"rows: {directory} has no {_NAME}, so its rows cannot be checked; prepare the rows again"
        ) from None
    try:
        checksums: np.ndarray = np.load(copy, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"rows: {path} is damaged ({error}); prepare the rows again") from error
    if checksums.ndim != 1 or checksums.dtype != np.uint32:
        raise DataError(
            f"rows: {path} is damaged (it holds {checksums.shape} {checksums.dtype}); prepare the rows again"
        )
    return checksums


def require_same(checksums: np.ndarray, directory: Path, row: int, *fields: np.ndarray) -> None:
    """Compare a row with its checksum.

    Args:
        checksums: of all rows.
        directory: of the split, for the message.
        row: its number.
        fields: ``input_ids`` [time], ``document_lengths`` and ``document_sources`` [documents].

    Raises:
        DataError: they differ.
    """
    if _checksum(*fields) != checksums[row]:
        raise DataError(f"rows: row {row} of {directory} differs from its checksum; prepare the rows again")


def _checksum(*fields: np.ndarray) -> int:
    value = 0
    for field, dtype in zip(fields, _DTYPES, strict=True):
        value = zlib.crc32(np.ascontiguousarray(field, dtype).data, value)
    return value
