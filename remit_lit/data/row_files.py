"""Rows of a split as they are written: Arrow files in the form of ``datasets.save_to_disk``."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from remit_lit.data.packing import cut_rows
from remit_lit.data.stored_rows import STATE

_FILE_BYTES = 500 * 10**6  # that `datasets` writes to a file
_ROWS_PER_BATCH = 1000  # as `datasets` writes


class RowWriter:
    """Packs documents into the rows of a split, in the order in which they come.

    Args:
        directory: of the split; must not exist.
        sequence_length: tokens in a row.
        tell: is told how many rows were written, now and then.
    """

    def __init__(self, directory: Path, sequence_length: int, tell: Callable[[int], object] = lambda _: None) -> None:
        self.num_rows, self.left_over = 0, 0
        self._tell = tell
        self._directory, self._time = directory, sequence_length
        self._features = datasets.Features(
            {
                "input_ids": datasets.List(datasets.Value("int32"), length=sequence_length),
                "document_lengths": datasets.List(datasets.Value("int32")),
                "document_sources": datasets.List(datasets.Value("int16")),
            }
        )
        self._schema = self._features.arrow_schema
        self._rows_per_file = max(1, _FILE_BYTES // (4 * sequence_length))
        self._files: list[str] = []
        self._stream: pa.RecordBatchStreamWriter | None = None
        self._start()

    def _start(self) -> None:
        """No token waits for a whole row."""
        self._tokens = np.zeros(0, np.int32)
        self._lengths, self._sources = np.zeros(0, np.int32), np.zeros(0, np.int16)

    def add(self, tokens: np.ndarray, lengths: np.ndarray, sources: np.ndarray) -> None:
        """Pack documents; those after the last whole row wait for the next ones.

        Args:
            tokens: of all of them, int32 [tokens].
            lengths: of each, int [documents].
            sources: of each, int16 [documents].
        """
        tokens = np.concatenate([self._tokens, tokens])
        lengths, sources = np.concatenate([self._lengths, lengths]), np.concatenate([self._sources, sources])
        layout = cut_rows(lengths, sources, self._time)
        num_rows = len(layout.offsets) - 1
        arrays = [
            pa.FixedSizeListArray.from_arrays(pa.array(tokens[: num_rows * self._time]), self._time),
            pa.ListArray.from_arrays(pa.array(layout.offsets), pa.array(layout.lengths)),
            pa.ListArray.from_arrays(pa.array(layout.offsets), pa.array(layout.sources)),
        ]
        batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        for start, stop in self._pieces(num_rows):
            self._write(batch.slice(start, stop - start))
        used = num_rows * self._time
        ends = np.cumsum(lengths, dtype=np.int64)
        waiting = ends > used
        self._tokens, self._sources = tokens[used:], sources[waiting]
        self._lengths = np.minimum(lengths, ends - used)[waiting].astype(np.int32)

    def _pieces(self, num_rows: int) -> Iterator[tuple[int, int]]:
        """Rows that are written at once, none across the end of a file."""
        start = 0
        while start < num_rows:
            room = self._rows_per_file - (self.num_rows % self._rows_per_file)
            stop = min(start + _ROWS_PER_BATCH, start + room, num_rows)
            yield start, stop
            start = stop

    def _write(self, batch: pa.RecordBatch) -> None:
        if self.num_rows % self._rows_per_file == 0:
            self._close_file()
            self._directory.mkdir(parents=True, exist_ok=True)
            self._files.append(f"data-{len(self._files):05d}.arrow")
            self._stream = pa.ipc.new_stream(self._directory / self._files[-1], batch.schema)
        assert self._stream is not None
        self._stream.write_batch(batch)
        self.num_rows += len(batch)
        self._tell(len(batch))

    def _close_file(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def end_stage(self) -> None:
        """Leave out the tokens after the last whole row, so that the next document begins a row."""
        self.left_over += len(self._tokens)
        self._start()

    def close(self) -> datasets.Dataset:
        """Finish the files, at least one row having been written, and open them."""
        self.end_stage()
        self._close_file()
        datasets.DatasetInfo(features=self._features).write_to_directory(str(self._directory))
        starts = range(0, self.num_rows, self._rows_per_file)
        sizes = [min(self._rows_per_file, self.num_rows - start) for start in starts]
        state: dict[str, Any] = {
            "_data_files": [{"filename": name, "rows": rows} for name, rows in zip(self._files, sizes, strict=True)],
            "_fingerprint": "generated",
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": self._directory.name,
        }
        (self._directory / STATE).write_text(json.dumps(state, indent=2) + "\n")
        dataset = datasets.load_from_disk(str(self._directory))
        assert isinstance(dataset, datasets.Dataset)
        return dataset
