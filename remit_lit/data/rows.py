"""Packed rows as batches: reading, shifting to next-token targets, document boundaries, and the order of rows."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from remit_lit.data.columns import ScoreColumn, column_directory, require_facts
from remit_lit.data.manifest import read_manifest
from remit_lit.errors import ConfigError
from remit_lit.losses import IGNORE_INDEX

Row = dict[str, Any]


class PackedRows(Dataset[Row]):
    """Rows of one split, memory-mapped, with the score columns that the run asks for.

    Args:
        directory: a split of prepared rows.
        columns: score columns by name.
        selection: rows to keep, ascending, int64 [kept]; None keeps all. Items are numbered through the selection.
    """

    def __init__(
        self,
        directory: str | Path,
        columns: dict[str, ScoreColumn] | None = None,
        selection: np.ndarray | None = None,
    ) -> None:
        import datasets  # only here: it takes half a second, which a mistake in a config should not wait for

        if not Path(directory).is_dir():
            raise ConfigError(f"rows: {directory} does not exist; prepare a split {Path(directory).name!r}")
        self.rows = datasets.load_from_disk(str(directory)).with_format("numpy")
        self.columns, self.selection = columns or {}, selection

    def __len__(self) -> int:
        return len(self.rows) if self.selection is None else len(self.selection)

    def __getitem__(self, index: int) -> Row:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Row]:
        """What a loader asks a batch of: one read of all rows takes a sixth of the time of as many reads of one."""
        numbers = indices if self.selection is None else [int(self.selection[index]) for index in indices]
        fields = self.rows[numbers]
        return [
            {
                **{name: values[place] for name, values in fields.items()},
                "row": row,
                "scores": {name: column[row] for name, column in self.columns.items()},
            }
            for place, row in enumerate(numbers)
        ]


class RankShare(Dataset[Row]):
    """One rank's share of rows, in order; all ranks have equally many, since under ZeRO they work in step.

    Where the rows do not go round, the last item is a row that was had already, with number -1: its tokens do not
    count.

    Args:
        rows: all rows.
        rank: of this process.
        world_size: processes.
    """

    def __init__(self, rows: PackedRows, rank: int, world_size: int) -> None:
        self.rows, self.rank, self.world_size = rows, rank, world_size

    def __len__(self) -> int:
        return -(-len(self.rows) // self.world_size)

    def __getitem__(self, index: int) -> Row:
        row = index * self.world_size + self.rank
        return self.rows[row] if row < len(self.rows) else {**self.rows[0], "row": -1}


def open_rows(directory: str | Path, split: str, columns: Sequence[str], document_attention: bool) -> PackedRows:
    """The rows of a split with score columns.

    Raises:
        ConfigError: there is no such split, or a column is missing or was scored from something else.
    """
    manifest = read_manifest(directory)
    if split not in manifest.fingerprints:
        raise ConfigError(f"data.rows: {directory} has no split {split!r}")
    loaded = {}
    for name in columns:
        loaded[name] = ScoreColumn(column_directory(directory, split, name))
        require_facts(
            loaded[name].facts,
            name,
            rows=manifest.fingerprints[split],
            tokenizer=manifest.tokenizer,
            document_attention=document_attention,
        )
    return PackedRows(Path(directory, split), loaded)


class Collate:
    """Rows to a batch of tensors, all [batch, time] but for ``rows`` [batch]; ``scores`` are float32 seen as int32.

    ``targets[t]`` is token ``t + 1`` of the row; -100 at the row's end and, with document attention, where the next
    token opens another document, which this one says nothing about. ``segment_ids`` and ``source_ids`` are those of
    the target.

    Args:
        document_attention: positions start again at each document, so that documents do not see each other.
    """

    def __init__(self, document_attention: bool) -> None:
        self.document_attention = document_attention

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        input_ids = np.stack([row["input_ids"] for row in rows]).astype(np.int64)
        lengths = [row["document_lengths"] for row in rows]
        segments = np.stack([np.repeat(np.arange(len(n)), n) for n in lengths])
        sources = np.stack([np.repeat(row["document_sources"], n) for row, n in zip(rows, lengths, strict=True)])
        targets = np.full_like(input_ids, IGNORE_INDEX)
        targets[:, :-1] = input_ids[:, 1:]
        row_numbers = np.array([row["row"] for row in rows])
        targets[row_numbers < 0] = IGNORE_INDEX
        position_ids = np.broadcast_to(np.arange(input_ids.shape[1]), input_ids.shape)
        if self.document_attention:
            targets[:, :-1][segments[:, 1:] != segments[:, :-1]] = IGNORE_INDEX
            position_ids = np.stack([np.concatenate([np.arange(n) for n in row]) for row in lengths])
        batch: dict[str, Any] = {
            "input_ids": input_ids,
            "position_ids": position_ids,
            "targets": targets,
            "segment_ids": _of_target(segments),
            "source_ids": _of_target(sources),
            "rows": row_numbers,
        }
        tensors = {name: torch.from_numpy(np.array(value, dtype=np.int64)) for name, value in batch.items()}
        names = rows[0]["scores"]
        scores = {name: np.stack([row["scores"][name] for row in rows]).astype(np.float32) for name in names}
        # As integers: half-precision plugins cast every float tensor of a batch.
        return {**tensors, "scores": {name: torch.from_numpy(v).view(torch.int32) for name, v in scores.items()}}


def _of_target(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values[:, 1:], values[:, -1:]], axis=1)


def batch_to(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch with its tensors on ``device``."""
    scores = {name: value.to(device) for name, value in batch["scores"].items()}
    return {**{name: v.to(device) for name, v in batch.items() if isinstance(v, Tensor)}, "scores": scores}


class ShuffledBatches(Sampler[list[int]]):
    """Batches of this rank in one global order that depends on the seed alone.

    Each pass over the rows is a permutation by ``(seed, pass)``. Of each ``world_size * batch_size`` consecutive rows
    rank ``r`` takes the ``r``-th block, so that a run on twice the ranks with half the accumulation trains on the
    same rows at each step.

    Args:
        num_rows: rows to draw from.
        batch_size: rows of a batch on one rank.
        num_batches: batches in all, over as many passes as that takes.
        seed: of the order.
        rank: of this process.
        world_size: processes.
    """

    def __init__(
        self, num_rows: int, batch_size: int, num_batches: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.num_rows, self.batch_size, self.num_batches = num_rows, batch_size, num_batches
        self.seed, self.rank, self.world_size = seed, rank, world_size

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        current, order = -1, np.zeros(0, np.int64)
        for batch in range(self.num_batches):
            first = (batch * self.world_size + self.rank) * self.batch_size
            rows = []
            for position in range(first, first + self.batch_size):
                epoch, offset = divmod(position, self.num_rows)
                if epoch != current:
                    current, order = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.num_rows)
                rows.append(int(order[offset]))
            yield rows
