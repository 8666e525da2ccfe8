"""Packed rows as batches: reading, shifting to next-token targets, document boundaries, and the order of rows."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from remit_lit.data.batch import Batch, ids_of, score_bits
from remit_lit.data.columns import IDS, LOG_PROBABILITIES, ScoreColumn, column_directory, require_facts
from remit_lit.data.file_cache import GIGABYTES, FileCache
from remit_lit.data.manifest import Manifest, read_manifest
from remit_lit.data.repetitions import RepetitionFilter
from remit_lit.data.row_checksums import read_checksums, require_same
from remit_lit.data.storage import exists, is_remote, located
from remit_lit.data.stored_rows import StoredRows
from remit_lit.errors import ConfigError, DataError
from remit_lit.losses import IGNORE_INDEX
from remit_lit.runs.folder import warn


@dataclass(frozen=True, eq=False)
class Row:
    """One packed row as it is stored.

    Attributes:
        number: of the row in its split; -1 for one that only fills up a rank's share, whose tokens do not count.
        input_ids: tokens, [time].
        document_lengths: tokens of each document, [documents]; they add up to the row.
        document_sources: index of each document's source in the manifest, [documents].
        scores: what the columns hold of each target, by column name, [time].
    """

    number: int
    input_ids: np.ndarray
    document_lengths: np.ndarray
    document_sources: np.ndarray
    scores: Mapping[str, np.ndarray]


class PackedRows(Dataset[Row]):
    """Rows of one split, memory-mapped, with the score columns that the run asks for.

    Args:
        directory: a split of prepared rows, or its URL.
        columns: score columns by name.
        selection: rows to keep, ascending, int64 [kept]; None keeps all. Items are numbered through the selection.

    Raises:
        ConfigError: there is no such split, or an earlier version made it.
        DataError: its files are damaged; and on reading, a row differs from its checksum.
    """

    def __init__(
        self,
        directory: str | Path,
        columns: dict[str, ScoreColumn] | None = None,
        selection: np.ndarray | None = None,
    ) -> None:
        self.directory = located(directory)
        if not exists(self.directory):
            raise ConfigError(f"rows: {directory} does not exist; prepare a split {self.directory.name!r}")
        self._checksums = read_checksums(self.directory)
        self._num_rows = len(self._checksums)
        with self._damage_named():
            self._rows = StoredRows(self.directory, self._num_rows)
        self.columns, self.selection = columns or {}, selection

    def __len__(self) -> int:
        return self._num_rows if self.selection is None else len(self.selection)

    def __getitem__(self, index: int) -> Row:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Row]:
        """What a loader asks a batch of."""
        numbers = indices if self.selection is None else [int(self.selection[index]) for index in indices]
        if max(numbers, default=-1) >= self._num_rows:
            raise IndexError(f"row {max(numbers)} of {self._num_rows}")
        with self._damage_named():
            parts = [self._rows[number] for number in numbers]
        for number, part in zip(numbers, parts, strict=True):
            require_same(self._checksums, self.directory, number, *part)
        return [
            Row(number, tokens, lengths, sources, {name: column[number] for name, column in self.columns.items()})
            for number, (tokens, lengths, sources) in zip(numbers, parts, strict=True)
        ]

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        """Say which rows are damaged: Arrow raises whatever a broken file leads it to."""
        try:
            yield
        except (ConfigError, DataError):
            raise
        except Exception as error:
            raise DataError(f"rows: {self.directory} is damaged ({error}); prepare the rows again") from error


@dataclass(frozen=True)
class RankShare(Dataset[Row]):
    """One rank's share of rows, in order; all ranks have equally many, since under ZeRO they work in step.

    Where the rows do not divide evenly, the last item is a row of another rank with number -1: its tokens do not count.

    Attributes:
        rows: all rows.
        rank: of this process.
        world_size: number of processes.
    """

    rows: PackedRows
    rank: int
    world_size: int

    def __len__(self) -> int:
        return -(-len(self.rows) // self.world_size)

    def __getitem__(self, index: int) -> Row:
        row = index * self.world_size + self.rank
        return self.rows[row] if row < len(self.rows) else replace(self.rows[0], number=-1)


def open_rows(directory: str | Path, split: str, columns: Sequence[str], document_attention: bool) -> PackedRows:
    """The rows of a split with score columns, from a directory or its URL.

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
    _warn_of_a_small_cache(directory, manifest, split, loaded)
    return PackedRows(located(directory, split), loaded)


def _warn_of_a_small_cache(
    directory: str | Path, manifest: Manifest, split: str, columns: Mapping[str, ScoreColumn]
) -> None:
    if not is_remote(directory):
        return
    tokens = manifest.counts[split]["rows"] * manifest.sequence_length
    needed = tokens * (4 + sum(column.facts.stored.itemsize for column in columns.values()))
    if needed > (bound := FileCache.of_environment().max_bytes):
        warn(
            f"rows: {split} of {directory} and its columns take {needed / 1e9:,.1f} GB, more than the "
            f"{bound / 1e9:,.1f} GB of the local cache, so that most batches will fetch files again; raise {GIGABYTES}"
        )


@dataclass(frozen=True)
class Collate:
    """Rows to a :class:`Batch`.

    ``targets[t]`` is token ``t + 1`` of the row. There is none at the row's end nor, with document attention, where the
    next token opens another document, which this one says nothing about.

    Attributes:
        document_attention: positions start again at each document, so that documents do not see each other.
        repetitions: which rows have no target at all, since they only repeat themselves; None masks none.
    """

    document_attention: bool
    repetitions: RepetitionFilter | None = None

    def __call__(self, rows: Sequence[Row]) -> Batch:
        input_ids = np.stack([row.input_ids for row in rows]).astype(np.int64)
        counts = np.array([len(row.document_lengths) for row in rows])
        lengths = np.concatenate([row.document_lengths for row in rows]).astype(np.int64)
        documents = np.arange(len(lengths)) - np.repeat(np.cumsum(counts) - counts, counts)
        segments = np.repeat(documents, lengths).reshape(input_ids.shape)
        sources = np.repeat(np.concatenate([row.document_sources for row in rows]), lengths).reshape(input_ids.shape)
        numbers = np.array([row.number for row in rows])
        targets = np.full_like(input_ids, IGNORE_INDEX)
        targets[:, :-1] = input_ids[:, 1:]
        targets[numbers < 0] = IGNORE_INDEX
        if self.repetitions is not None:
            targets[[self.repetitions.repeats(row) for row in input_ids]] = IGNORE_INDEX
        position_ids = np.broadcast_to(np.arange(input_ids.shape[1]), input_ids.shape)
        if self.document_attention:
            targets[:, :-1][segments[:, 1:] != segments[:, :-1]] = IGNORE_INDEX
            begins = np.repeat(np.cumsum(lengths) - lengths, lengths)
            position_ids = (np.arange(input_ids.size) - begins).reshape(input_ids.shape)
        return Batch(
            input_ids=_tensor(input_ids),
            position_ids=_tensor(position_ids),
            targets=_tensor(targets),
            segment_ids=_tensor(_of_target(segments)),
            source_ids=_tensor(_of_target(sources)),
            rows=_tensor(numbers),
            scores=dict(_scores(rows)),
            packed=bool((np.diff(position_ids) != 1).any()),
            num_counted=int((targets != IGNORE_INDEX).sum()),
        )


def _scores(rows: Sequence[Row]) -> Iterator[tuple[str, torch.Tensor]]:
    """Those of a batch, by name, as :attr:`Batch.scores` keeps them."""
    for name in rows[0].scores:
        values = np.stack([row.scores[name] for row in rows])
        if values.dtype.names is not None:
            yield ids_of(name), torch.from_numpy(values[IDS].copy())
            values = values[LOG_PROBABILITIES]
        yield name, score_bits(torch.from_numpy(values.astype(np.float32)))


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(values, dtype=np.int64))


def _of_target(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values[:, 1:], values[:, -1:]], axis=1)


@dataclass(frozen=True)
class ShuffledBatches(Sampler[list[int]]):
    """Batches of this rank in one global order that depends on the seed alone.

    Each pass over the rows is a permutation by ``(seed, pass)``; of rows in stages, one of each stage after the other.
    Of each ``world_size * batch_size`` consecutive rows rank ``r`` takes the ``r``-th block, so that a run on twice the
    ranks with half the accumulation trains on the same rows at each step.

    Attributes:
        num_rows: rows to draw from.
        batch_size: rows of a batch on one rank.
        num_batches: batches in all, over as many passes as that takes.
        seed: of the order.
        rank: of this process.
        world_size: number of processes.
        stages: rows of each stage, in order; () where they are in none.
    """

    num_rows: int
    batch_size: int
    num_batches: int
    seed: int
    rank: int = 0
    world_size: int = 1
    stages: tuple[int, ...] = ()

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, batch: int) -> list[int]:
        """Rows of batch number ``batch``, counted from 0."""
        first = (batch * self.world_size + self.rank) * self.batch_size
        places = (divmod(position, self.num_rows) for position in range(first, first + self.batch_size))
        return [int(_permutation(self.seed, epoch, self.num_rows, self.stages)[offset]) for epoch, offset in places]

    def __iter__(self) -> Iterator[list[int]]:
        return (self[batch] for batch in range(self.num_batches))


@lru_cache(maxsize=2)  # a batch may begin in one pass and end in the next
def _permutation(seed: int, epoch: int, num_rows: int, stages: tuple[int, ...]) -> np.ndarray:
    if not stages:
        return np.random.default_rng([seed, epoch]).permutation(num_rows)
    ends = np.cumsum(stages)
    each = [np.random.default_rng([seed, epoch, stage]).permutation(rows) for stage, rows in enumerate(stages)]
    return np.concatenate([rows + end - len(rows) for rows, end in zip(each, ends, strict=True)])
