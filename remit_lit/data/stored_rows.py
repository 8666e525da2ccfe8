"""Rows of a split where they lie: Arrow files that are opened when a row of theirs is first read."""

import json
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from remit_lit.data.row_checksums import ROW_FIELDS
from remit_lit.data.storage import local_copy

STATE, INFO = "state.json", "dataset_info.json"
"""Files of a dataset that ``datasets`` saved."""
_MOST_OPEN = 64  # files at a time, whatever the size of the split


@dataclass(frozen=True, eq=False)
class _Batch:
    """Consecutive rows as views of a file: of ``input_ids`` [rows, time], of the others values and offsets."""

    input_ids: np.ndarray
    pieces: list[tuple[np.ndarray, np.ndarray]]

    def row(self, index: int) -> tuple[np.ndarray, ...]:
        return (
            self.input_ids[index],
            *(values[offsets[index] : offsets[index + 1]] for values, offsets in self.pieces),
        )


class StoredRows:
    """Rows of one split, memory-mapped; ``rows[number]`` has the fields of ``ROW_FIELDS``.

    Starting reads the list of files and opens none; later few are open at a time, whatever their number.

    Args:
        directory: of the split.
        num_rows: rows in it.

    Raises:
        OSError: a file is missing.
        ValueError: one has another form.
    """

    def __init__(self, directory: Path, num_rows: int) -> None:
        self._directory = directory
        json.loads(local_copy(directory / INFO).read_text())
        files = json.loads(local_copy(directory / STATE).read_text())["_data_files"]
        self._names = [file["filename"] for file in files]
        # `datasets` itself writes no numbers of rows, and equally many to each file.
        equal, more = divmod(num_rows, len(files))
        sizes = [file.get("rows", equal + (index < more)) for index, file in enumerate(files)]
        self._first = np.cumsum([0, *sizes])
        if self._first[-1] != num_rows:
            raise ValueError(f"{STATE} says {self._first[-1]} rows, not {num_rows}")
        self._open: OrderedDict[int, tuple[np.ndarray, list[_Batch]]] = OrderedDict()

    def __getitem__(self, number: int) -> tuple[np.ndarray, ...]:
        file = int(np.searchsorted(self._first, number, side="right")) - 1
        within = number - int(self._first[file])
        first, batches = self._opened(file)
        batch = int(np.searchsorted(first, within, side="right")) - 1
        return batches[batch].row(within - int(first[batch]))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_open": OrderedDict()}  # another process opens files of its own

    def _opened(self, file: int) -> tuple[np.ndarray, list[_Batch]]:
        if file in self._open:
            self._open.move_to_end(file)
            return self._open[file]
        table = pa.ipc.open_stream(pa.memory_map(str(local_copy(self._directory / self._names[file])))).read_all()
        expected = int(self._first[file + 1] - self._first[file])
        if len(table) != expected:
            raise ValueError(f"{self._names[file]} has {len(table)} rows, not {expected}")
        batches = [_views(batch) for batch in table.to_batches()]
        first = np.cumsum([0, *(len(batch.input_ids) for batch in batches)])
        self._open[file] = first, batches
        if len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)
        return self._open[file]


def _views(batch: pa.RecordBatch) -> _Batch:
    input_ids, *lists = (batch.column(name) for name in ROW_FIELDS)
    time = input_ids.type.list_size
    tokens = input_ids.values.to_numpy()[input_ids.offset * time :][: len(batch) * time]
    return _Batch(
        tokens.reshape(len(batch), time), [(pieces.values.to_numpy(), pieces.offsets.to_numpy()) for pieces in lists]
    )
