"""Score columns: what a frozen model says of each token, stored beside the rows and bound to them by fingerprints.

It is the token's NLL, the entropy of the distribution that it is drawn from, or the most likely tokens in its place
with their log-probabilities.

A shard is a ``.npy`` file followed by the CRC-32 of all its bytes, so that damage shows in the file alone.
"""

import dataclasses
import io
import json
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from remit_lit.data.storage import exists, is_remote, local_copy, located, names_in, write
from remit_lit.errors import ConfigError, DataError, did_you_mean
from remit_lit.files import full_disk_named, make_directory
from remit_lit.runs.lock import held

IDS, LOG_PROBABILITIES = "ids", "log_probabilities"
"""Fields of a token's value in a column of most likely tokens."""
_NAME, _DISTRIBUTIONS = "column.json", "distributions/"
_CHECKSUM_BYTES = 4
_MOST_OPEN = 64  # shards at a time, whatever the size of the column


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
        forward_flops: of the model that scored, per token; None where an earlier version wrote the column. Not part of
            what makes two columns the same.
        top_k: most likely tokens at each position; None where the column holds a number for each.
        entropy: that number is the entropy of the model's distribution there, and not the NLL of the token.
    """

    rows: str
    tokenizer: str
    model: str
    document_attention: bool
    dtype: str
    num_rows: int
    rows_per_shard: int
    sequence_length: int
    forward_flops: float | None = dataclasses.field(default=None, compare=False)
    top_k: int | None = None
    entropy: bool = False

    @property
    def stored(self) -> np.dtype:
        """What a token's value is stored as: a number, or ``top_k`` ids and as many log-probabilities."""
        if self.top_k is None:
            return np.dtype(self.dtype)
        return np.dtype([(IDS, np.int32, (self.top_k,)), (LOG_PROBABILITIES, self.dtype, (self.top_k,))])

    @property
    def num_shards(self) -> int:
        return -(-self.num_rows // self.rows_per_shard)

    def shards(self) -> Iterator[tuple[int, range]]:
        """Number and rows of each shard."""
        starts = range(0, self.num_rows, self.rows_per_shard)
        return ((i, range(s, min(s + self.rows_per_shard, self.num_rows))) for i, s in enumerate(starts))


class ScoreColumn:
    """A finished column, memory-mapped; ``column[row]`` is [time] of ``facts.stored``, in nats.

    An NLL is 0 where the row has no target. A shard is opened, and compared with its checksum, when one of its rows is
    first read; few are open at a time.

    Raises:
        ConfigError: there is no such column, or it is not complete.
        DataError: on reading, a shard is damaged.
    """

    def __init__(self, directory: Path) -> None:
        self.directory, self.facts = directory, read_facts(directory)
        missing = next(iter(missing_shards(directory, self.facts)), None)
        if missing is not None:
            raise _missing(shard_path(directory, missing))
        self._open: OrderedDict[int, np.ndarray] = OrderedDict()
        self._verified: set[int] = set()

    def verify(self) -> None:
        """Read every byte once and compare the checksums.

        Raises:
            DataError: a shard is damaged.
        """
        for index, _ in self.facts.shards():
            self._shard(index)

    def __getitem__(self, row: int) -> np.ndarray:
        index, offset = divmod(row, self.facts.rows_per_shard)
        return self._shard(index)[offset]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_open": OrderedDict()}  # another process opens files of its own

    def _shard(self, index: int) -> np.ndarray:
        if index in self._open:
            self._open.move_to_end(index)
            return self._open[index]
        start = index * self.facts.rows_per_shard
        num_rows = min(self.facts.rows_per_shard, self.facts.num_rows - start)
        shard = open_shard(self.directory, self.facts, index, num_rows)
        if index not in self._verified:
            verify_shard(self.directory, index)
            self._verified.add(index)
        self._open[index] = shard
        if len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)
        return shard


def open_shard(directory: Path, facts: ColumnFacts, index: int, num_rows: int) -> np.ndarray:
    """One shard, memory-mapped, [rows, time].

    Raises:
        ConfigError: it is missing.
        DataError: it is damaged.
    """
    path = shard_path(directory, index)
    try:
        copy = local_copy(path)
    except FileNotFoundError:
        raise _missing(path) from None
    try:
        shard: np.memmap = np.load(copy, mmap_mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise _damaged(path, str(error)) from error
    if shard.shape != (num_rows, facts.sequence_length) or shard.dtype != facts.stored:
        raise _damaged(path, f"it holds {shard.shape} {shard.dtype}")
    if (size := copy.stat().st_size) != shard.offset + shard.nbytes + _CHECKSUM_BYTES:
        raise _damaged(path, f"it has {size:,} bytes")
    return shard


def verify_shard(directory: Path, index: int) -> None:
    """Compare the bytes of a shard with its checksum.

    Raises:
        DataError: they differ.
    """
    path = shard_path(directory, index)
    content = memoryview(local_copy(path).read_bytes())
    if zlib.crc32(content[:-_CHECKSUM_BYTES]) != int.from_bytes(content[-_CHECKSUM_BYTES:], "little"):
        raise _damaged(path, "its checksum differs")


def is_whole(directory: Path, facts: ColumnFacts, index: int, num_rows: int) -> bool:
    """Whether a shard is there and undamaged."""
    try:
        open_shard(directory, facts, index, num_rows)
        verify_shard(directory, index)
    except (ConfigError, DataError):
        return False
    return True


def _missing(path: Path) -> ConfigError:
    return ConfigError(f"column {path.parent.name!r}: not complete, {path.name} is missing; run `score` again")


def _damaged(path: Path, how: str) -> DataError:
    return DataError(f"column {path.parent.name!r}: {path} is damaged ({how}); run `score` again, which replaces it")


def column_directory(rows: str | Path, split: str, name: str) -> Path:
    """Where the column ``name`` of a split lies; ``name`` may come from :func:`of_distributions`."""
    kind, inner = ("columns", name) if not name.startswith(_DISTRIBUTIONS) else name.split("/", 1)
    return located(rows, kind, split, inner)


def of_distributions(name: str) -> str:
    """What a column of most likely tokens is called among others, which hold NLLs and may have the same name."""
    return f"{_DISTRIBUTIONS}{name}"


def missing_shards(directory: Path, facts: ColumnFacts) -> list[int]:
    """Numbers of the shards that are not there."""
    names = names_in(directory) if exists(directory) else set()
    return [index for index in range(facts.num_shards) if _shard_name(index) not in names]


def shard_path(directory: Path, index: int) -> Path:
    """Where a shard of a column lies."""
    return directory / _shard_name(index)


def _shard_name(index: int) -> str:
    return f"shard-{index:05d}.npy"


def read_facts(directory: Path) -> ColumnFacts:
    """Read what a column was scored from.

    Raises:
        ConfigError: there is no such column.
    """
    try:
        return ColumnFacts(**json.loads(local_copy(directory / _NAME).read_text()))
    except FileNotFoundError:
        beside = names_in(directory.parent) if exists(directory.parent) else ()
        names = sorted(name for name in beside if has_facts(directory.parent / name))
        existing = f"these rows have {names}" if names else "these rows have none"
        near = did_you_mean(directory.name, names)
        raise ConfigError(
            f"column: no score column {directory.name!r} ({existing}); {near}write it with `python -m remit_lit score`"
        ) from None
    except (json.JSONDecodeError, TypeError) as error:
        raise DataError(f"column: {directory / _NAME} is damaged ({error}); remove the column") from error


def has_facts(directory: Path) -> bool:
    """Whether scoring of a column has begun."""
    return exists(directory / _NAME)


def write_facts(directory: Path, facts: ColumnFacts) -> None:
    """Bind a column to what it is scored from, before its first shard."""
    _write(directory / _NAME, (json.dumps(asdict(facts), indent=2) + "\n").encode())


def write_shard(directory: Path, index: int, values: np.ndarray) -> None:
    """Write one shard; one that is there was written whole.

    Raises:
        DataError: the disk is full; the shards written before are kept.
    """
    stream = io.BytesIO()
    np.save(stream, values)
    checksum = zlib.crc32(stream.getbuffer()).to_bytes(_CHECKSUM_BYTES, "little")
    _write(shard_path(directory, index), stream.getvalue() + checksum)


def _write(path: Path, content: bytes) -> None:
    then = "finished shards are kept, so make room and run `score` again"
    with full_disk_named(f"column {path.parent.name!r}: cannot write {path.name}", then):
        write(path, content)


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Create a column's directory and hold it, so that one `score` at a time writes there.

    The lock ends with the process, however that ends. What a killed one left half written is removed. An object
    storage has no locks; its objects are whole, and two that score by the same model write the same bytes.

    Raises:
        ConfigError: another process holds it.
    """
    if is_remote(directory):
        yield
        return
    with held("column", directory):
        make_directory(directory)
        for aside in directory.glob(".*.npy.*"):
            aside.unlink()
        yield


def require_facts(facts: ColumnFacts, name: str, *, rows: str, tokenizer: str, document_attention: bool) -> None:
    """Refuse a column that was scored from other rows, another tokenizer, or another attention.

    Raises:
        ConfigError: naming both sides.
    """
    expected = {"rows": rows, "tokenizer": tokenizer, "document_attention": document_attention}
    sides = [
        f"{field}: {getattr(facts, field)} in the column, {value} in this run"
        for field, value in expected.items()
        if getattr(facts, field) != value
    ]
    if sides:
        raise ConfigError(f"column {name!r} does not belong to this run ({'; '.join(sides)}); score these rows again")
