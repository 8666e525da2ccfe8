"""Score columns: per-token NLLs of a frozen model, stored beside the rows and bound to them by fingerprints."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from remit_lit.errors import ConfigError, DataError

_NAME = "column.json"


@dataclass(frozen=True)
class ColumnFacts:
    """What a column was scored from; a run refuses a column whose facts are not its own.

    Attributes:
        rows: fingerprint of the rows.
        tokenizer: fingerprint of the tokenizer.
        model: fingerprint of the weights that scored.
        document_attention: whether documents were kept apart.
        dtype: float16 or float32, nats.
        num_rows: rows in the column.
        rows_per_shard: rows in each shard but the last.
        sequence_length: tokens in a row.
    """

    rows: str
    tokenizer: str
    model: str
    document_attention: bool
    dtype: str
    num_rows: int
    rows_per_shard: int
    sequence_length: int

    def shards(self) -> Iterator[tuple[int, range]]:
        """Number and rows of each shard."""
        starts = range(0, self.num_rows, self.rows_per_shard)
        return ((i, range(s, min(s + self.rows_per_shard, self.num_rows))) for i, s in enumerate(starts))


class ScoreColumn:
    """A finished column, memory-mapped; ``column[row]`` is [time] in nats, 0 where the row has no target.

    Raises:
        ConfigError: there is no such column, or it is not complete.
        DataError: a shard is damaged.
    """

    def __init__(self, directory: Path) -> None:
        self.directory, self.facts = directory, read_facts(directory)
        self._shards = [open_shard(directory, self.facts, index, len(rows)) for index, rows in self.facts.shards()]

    def __getitem__(self, row: int) -> np.ndarray:
        index, offset = divmod(row, self.facts.rows_per_shard)
        return self._shards[index][offset]


def open_shard(directory: Path, facts: ColumnFacts, index: int, num_rows: int) -> np.ndarray:
    """One shard, memory-mapped, [rows, time].

    Raises:
        ConfigError: it is missing.
        DataError: it is damaged.
    """
    path, name = shard_path(directory, index), directory.name
    try:
        shard: np.ndarray = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise ConfigError(f"column {name!r}: not complete, {path.name} is missing; run `score` again") from None
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"column {name!r}: {path} is damaged ({error}); run `score` again") from error
    if shard.shape != (num_rows, facts.sequence_length) or shard.dtype != np.dtype(facts.dtype):
        raise DataError(f"column {name!r}: {path} holds {shard.shape} {shard.dtype}; run `score` again")
    return shard


def column_directory(rows: str | Path, split: str, name: str) -> Path:
    """Where the column ``name`` of a split lies."""
    return Path(rows, "columns", split, name)


def shard_path(directory: Path, index: int) -> Path:
    """Where a shard of a column lies."""
    return directory / f"shard-{index:05d}.npy"


def read_facts(directory: Path) -> ColumnFacts:
    """Read what a column was scored from.

    Raises:
        ConfigError: there is no such column.
    """
    try:
        return ColumnFacts(**json.loads((directory / _NAME).read_text()))
    except FileNotFoundError:
        names = sorted(path.name for path in directory.parent.glob("*")) if directory.parent.is_dir() else []
        have = f"these rows have {names}" if names else "these rows have none"
        raise ConfigError(
            f"column: no score column {directory.name!r} ({have}); write it with `python -m remit_lit score`"
        ) from None
    except (json.JSONDecodeError, TypeError) as error:
        raise DataError(f"column: {directory / _NAME} is damaged ({error}); run `score` again") from error


def has_facts(directory: Path) -> bool:
    """Whether scoring of a column has begun."""
    return (directory / _NAME).exists()


def write_facts(directory: Path, facts: ColumnFacts) -> None:
    """Bind a column to what it is scored from, before its first shard."""
    directory.mkdir(parents=True, exist_ok=True)
    _replace(directory / _NAME, lambda path: path.write_text(json.dumps(asdict(facts), indent=2) + "\n"))


def write_shard(directory: Path, index: int, values: np.ndarray) -> None:
    """Write one shard aside and rename it into place, so that a shard that is there is whole."""

    def save(path: Path) -> None:
        with open(path, "wb") as stream:
            np.save(stream, values)

    _replace(shard_path(directory, index), save)


def _replace(path: Path, write: Any) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    write(aside)
    aside.replace(path)


def require_facts(found: ColumnFacts, name: str, *, rows: str, tokenizer: str, document_attention: bool) -> None:
    """Refuse a column that was scored from other rows, another tokenizer, or another attention.

    Raises:
        ConfigError: naming both sides.
    """
    expected = {"rows": rows, "tokenizer": tokenizer, "document_attention": document_attention}
    different = {f: (getattr(found, f), want) for f, want in expected.items() if getattr(found, f) != want}
    if different:
        sides = "; ".join(f"{f}: {a} in the column, {b} in this run" for f, (a, b) in different.items())
        raise ConfigError(f"column {name!r} does not belong to this run ({sides}); score these rows again")
