"""A pass of a frozen model over rows, which writes one or several columns, a shard at a time."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from remit_lit.data.batch import Batch
from remit_lit.data.columns import (
    LOG_PROBABILITIES,
    ColumnFacts,
    ScoreColumn,
    has_facts,
    is_whole,
    missing_shards,
    read_facts,
    write_facts,
    write_shard,
)
from remit_lit.data.progress_bar import progress
from remit_lit.data.rows import Collate, PackedRows
from remit_lit.data.storage import is_remote
from remit_lit.errors import ConfigError, NonFiniteError

if TYPE_CHECKING:
    from lightning.fabric import Fabric


@dataclass(frozen=True)
class Column:
    """One that a pass writes.

    Attributes:
        field: that names it, for messages.
        directory: where it lies.
        facts: what it is scored from.
    """

    field: str
    directory: Path
    facts: ColumnFacts

    def scored_by(self, model: str, forward_flops: float) -> "Column":
        """The same of a model by its fingerprint and FLOPs of a token.

        Raises:
            ConfigError: other scores lie there.
        """
        facts = replace(self.facts, model=model, forward_flops=forward_flops)
        if has_facts(self.directory) and read_facts(self.directory) != facts:
            raise ConfigError(
                f"{self.field}: {self.directory} holds other scores ({read_facts(self.directory)}); name another column"
            )
        return replace(self, facts=facts)

    def lacks(self, index: int, num_rows: int) -> bool:
        """Whether a shard is missing or damaged."""
        return not is_whole(self.directory, self.facts, index, num_rows)

    @property
    def missing_bytes(self) -> int:
        """Of the shards that are not there."""
        row_bytes = self.facts.sequence_length * self.facts.stored.itemsize
        missing = set(missing_shards(self.directory, self.facts))
        return sum(len(rows) * row_bytes for index, rows in self.facts.shards() if index in missing)


@dataclass(frozen=True)
class Scorer:
    """What a frozen model says of rows, a batch at a time.

    Attributes:
        score: of a batch, the values of each column, [rows, time].
        rows: all rows.
        collate: rows to batches.
        rows_per_batch: rows at a time.
        device: where the batches are scored.
    """

    score: Callable[[Batch], Sequence[np.ndarray]]
    rows: PackedRows
    collate: Collate
    rows_per_batch: int
    device: torch.device

    def batches(self, rows: Sequence[int]) -> Iterator[Sequence[np.ndarray]]:
        """Scores in nats of consecutive batches of ``rows``, [rows, time] for each column.

        Raises:
            NonFiniteError: NaN or infinite scores; names the rows.
        """
        for start in range(0, len(rows), self.rows_per_batch):
            chosen = rows[start : start + self.rows_per_batch]
            batch = self.collate([self.rows[row] for row in chosen]).to(self.device)
            scores = self.score(batch)
            is_finite = [np.isfinite(_numbers(values)).reshape(len(values), -1).all(axis=1) for values in scores]
            broken = batch.rows.cpu().numpy()[~np.all(is_finite, axis=0)].tolist()
            if broken:
                raise NonFiniteError(f"model: NaN or infinite NLL in {len(broken)} row(s), the first {broken[:8]}")
            yield scores


def require_space(columns: Sequence[Column]) -> None:
    """Say how much is to be written.

    Raises:
        ConfigError: the disk has too little room; an object storage does not say what it has.
    """
    free = None if is_remote(columns[0].directory) else shutil.disk_usage(columns[0].directory).free
    for column in columns:
        facts = column.facts
        size = f"{facts.num_rows:,} rows x {facts.sequence_length:,} tokens in {facts.dtype}"
        needed = f"{column.missing_bytes / 1e6:,.2f} MB to write"
        room = "" if free is None else f", {free / 1e6:,.0f} MB free"
        print(f"column {column.directory.name}: {size}, {needed}{room}")
    total = sum(column.missing_bytes for column in columns)
    if free is not None and total > free:
        where = ", ".join(str(column.directory) for column in columns)
        raise ConfigError(
            f"column: {where} needs {total / 1e6:,.2f} MB, but its disk has {free / 1e6:,.2f} MB free; make room"
            + (", or store float16" if columns[0].facts.dtype == "float32" else "")
        )


def write_columns(columns: Sequence[Column], scorer: Scorer, fabric: "Fabric") -> None:
    """Score the shards that any column lacks, and write each where it is lacking; the others stay as they are.

    Args:
        columns: of the same rows and shards, in the order of ``scorer.score``.
        scorer: of the rows.
        fabric: the processes that share the shards.
    """
    missing = None
    if fabric.is_global_zero:
        for column in columns:
            write_facts(column.directory, column.facts)
        found = [
            (index, rows, [place for place, column in enumerate(columns) if column.lacks(index, len(rows))])
            for index, rows in columns[0].facts.shards()
        ]
        missing = [shard for shard in found if shard[2]]
    missing = fabric.broadcast(missing)
    assert missing is not None
    mine = missing[fabric.global_rank :: fabric.world_size]
    length, names = columns[0].facts.sequence_length, ", ".join(column.directory.name for column in columns)
    tokens = sum(len(rows) for _, rows, _ in mine) * length
    bar = progress(f"scoring {names}", tokens, "token", disable=not fabric.is_global_zero)
    start = time.perf_counter()
    with bar:
        for index, rows, lacking in mine:
            of_batches = []
            for scores in scorer.batches(rows):
                of_batches.append([scores[place].astype(columns[place].facts.stored) for place in lacking])
                bar.update(scores[0].size)
            for place, values in zip(lacking, zip(*of_batches, strict=True), strict=True):
                write_shard(columns[place].directory, index, np.concatenate(values))
    fabric.barrier()
    tokens, seconds = sum(len(rows) for _, rows, _ in missing) * length, time.perf_counter() - start
    rate = f"{tokens / seconds:,.0f} tokens/s on {fabric.world_size} device(s)"
    fabric.print(
        f"scored {tokens:,} tokens in {seconds:.1f} s, {rate}" if missing else "all shards had been written before"
    )


def verify_columns(columns: Sequence[Column], scorer: Scorer, num_rows: int) -> None:
    """Score rows drawn at random a second time and say how far each column is from that."""
    rows = sorted(np.random.default_rng().choice(columns[0].facts.num_rows, num_rows, replace=False).tolist())
    again = zip(*scorer.batches(rows), strict=True)
    for column, values in zip(columns, again, strict=True):
        stored = ScoreColumn(column.directory)
        before = _numbers(np.stack([stored[row] for row in rows]))
        difference = np.abs(before - _numbers(np.concatenate(values))).reshape(num_rows, -1)
        worst = rows[difference.max(axis=1).argmax()]
        print(
            f"column {column.directory.name}: verified {num_rows:,} rows: they differ from a second scoring by at most "
            f"{difference.max():.2e} nats (row {worst}), {difference.mean():.2e} on average"
        )


def _numbers(values: np.ndarray) -> np.ndarray:
    """What of scores can be off by a little: a number, [rows, time], or log-probabilities, [rows, time, k]; float32."""
    return (values if values.dtype.names is None else values[LOG_PROBABILITIES]).astype(np.float32)
