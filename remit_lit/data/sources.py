"""Where documents come from: JSON lines, Parquet, plain text, any ``datasets`` dataset, or a class of your own."""

import gzip
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from remit_lit.benchmarks.hub import hub_note, short_waits
from remit_lit.data.lines import count_lines, lines_of, split_line
from remit_lit.errors import ConfigError, DataError
from remit_lit.files import is_meant_as_path, matching_files, near_path

OnMalformed = Literal["raise", "skip"]
# Plain JSON lines are cut into pieces of this many bytes, so that one large file keeps several workers busy.
_PIECE_BYTES = 64 * 2**20
_DATASET_PIECES = 64


class Source(ABC):
    """Documents in a fixed order, cut into shards that workers read independently."""

    def check(self) -> None:  # noqa: B027
        """Raise ConfigError where files or datasets are missing, without reading them."""

    @abstractmethod
    def shards(self) -> list[str]:
        """Names of the shards, in order; the same whatever the number of workers."""

    @abstractmethod
    def read(self, shard: str) -> Iterator[str | None]:
        """The texts of one shard, in order; None for a record that is empty or skipped as malformed."""

    def files_read(self) -> list[str]:
        """Paths of the files on a disk that it reads: a run that was stopped does not go on once one has changed."""
        return []

    def settings(self) -> dict[str, Any]:
        """What the manifest records of this source."""
        return {"class_path": f"{type(self).__module__}.{type(self).__qualname__}", **vars(self)}


class MalformedRecord(DataError):  # noqa: N818
    """A record that a source with ``on_malformed: raise`` stops at."""

    @classmethod
    def at(cls, where: str, problem: str) -> "MalformedRecord":
        """Names where the record is and what is wrong with it."""
        return cls(f"{where}: {problem}. Fix it, or set on_malformed: skip to count it and go on")


class _Files(Source):
    def __init__(self, files: str | list[str], on_malformed: OnMalformed) -> None:
        self.files = [files] if isinstance(files, str) else files
        self.on_malformed = on_malformed

    def check(self) -> None:
        """Raise ConfigError where a pattern matches no file."""
        matching_files(self.files)

    def files_read(self) -> list[str]:
        return matching_files(self.files)

    def _malformed(self, where: str, problem: str, cause: Exception | None = None) -> None:
        if self.on_malformed == "raise":
            raise MalformedRecord.at(where, problem) from cause


class JsonLines(_Files):
    """One JSON object a line; ``.gz`` is decompressed.

    Args:
        files: paths or glob patterns; each pattern's files in alphabetical order.
        field: the key of the object that holds the text.
        on_malformed: "raise" stops with an error that names file and line; "skip" counts the record in the manifest
            and goes on.
    """

    def __init__(self, files: str | list[str], field: str = "text", on_malformed: OnMalformed = "raise") -> None:
        super().__init__(files, on_malformed)
        self.field = field

    def shards(self) -> list[str]:
        pieces: list[str] = []
        for path in matching_files(self.files):
            size = 1 if path.endswith(".gz") else max(1, Path(path).stat().st_size)
            pieces += [f"{start}:{path}" for start in range(0, size, _PIECE_BYTES)]
        return pieces

    def read(self, shard: str) -> Iterator[str | None]:
        offset, path = shard.split(":", 1)
        compressed = path.endswith(".gz")
        stop = float("inf") if compressed else int(offset) + _PIECE_BYTES
        with self._open(path) as stream:
            if int(offset):
                stream.seek(int(offset) - 1)
                stream.readline()  # a line belongs to the piece in which it starts
            while (start := stream.tell()) < stop:
                try:
                    line = stream.readline()
                except (OSError, EOFError) as error:
                    raise DataError(f"{path}: cannot be decompressed after byte {start} ({error})") from error
                if not line:
                    return
                for number, record in enumerate(split_line(line)):  # JSON escapes the line ends within a text
                    if record.strip():
                        yield self._text(record, path, start, number)

    @staticmethod
    def _open(path: str) -> IO[bytes]:
        return gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")  # type: ignore[return-value]

    def _text(self, line: bytes, path: str, start: int, number: int) -> str | None:
        cause: Exception
        try:
            record = json.loads(line.decode("utf-8"))
            text = record[self.field]
            if not isinstance(text, str):
                raise TypeError(f"field {self.field!r} holds {type(text).__name__}, not text")
            text.encode("utf-8")  # JSON can escape half of a surrogate pair, which is no character
            return text or None
        except UnicodeError as error:
            problem, cause = f"text that is not UTF-8 ({error})", error
        except json.JSONDecodeError as error:
            problem, cause = f"not JSON ({error})", error
        except KeyError as error:
            problem, cause = f"no field {self.field!r}; it has {sorted(record)[:8]}", error
        except TypeError as error:
            problem, cause = str(error), error
        except RecursionError as error:
            problem, cause = "JSON that is nested too deeply", error
        except ValueError as error:  # of Python, for a number of thousands of digits
            problem, cause = f"JSON that cannot be read ({error})", error
        self._malformed(self._where(path, start, number), problem, cause)
        return None

    def _where(self, path: str, start: int, number: int) -> str:
        with self._open(path) as stream:  # lines are counted only once something is wrong
            return f"{path}, line {count_lines(stream, start) + number + 1}"


class PlainText(_Files):
    """Plain UTF-8 text; each file is one document, or each line.

    Args:
        files: paths or glob patterns.
        document: what one document is, a "file" or a "line".
        on_malformed: "raise" stops where bytes are not UTF-8; "skip" counts the document in the manifest and goes on.
    """

    def __init__(
        self,
        files: str | list[str],
        document: Literal["file", "line"] = "file",
        on_malformed: OnMalformed = "raise",
    ) -> None:
        super().__init__(files, on_malformed)
        self.document = document

    def shards(self) -> list[str]:
        return matching_files(self.files)

    def read(self, shard: str) -> Iterator[str | None]:
        with open(shard, "rb") as stream:
            pieces = lines_of(stream) if self.document == "line" else [stream.read()]
            for line, piece in enumerate(pieces, start=1):
                try:
                    yield piece.decode("utf-8").rstrip("\r\n") or None
                except UnicodeDecodeError as error:
                    self._malformed(f"{shard}, line {line}", f"bytes that are not UTF-8 ({error.reason})", error)
                    yield None


class Parquet(_Files):
    """Parquet files with a column of text.

    Args:
        files: paths or glob patterns.
        field: the column that holds the text.
        on_malformed: "raise" stops at a value that is not text, such as null; "skip" counts it in the manifest and
            goes on.
    """

    def __init__(self, files: str | list[str], field: str = "text", on_malformed: OnMalformed = "raise") -> None:
        super().__init__(files, on_malformed)
        self.field = field

    def shards(self) -> list[str]:
        return matching_files(self.files)

    def read(self, shard: str) -> Iterator[str | None]:
        import pyarrow
        import pyarrow.parquet

        try:
            parquet = pyarrow.parquet.ParquetFile(shard)
            if self.field not in parquet.schema_arrow.names:
                raise DataError(f"{shard}: no column {self.field!r}; it has {parquet.schema_arrow.names[:8]}")
            row = 0
            for batch in parquet.iter_batches(columns=[self.field]):
                for text in _values(batch.column(0)):
                    row += 1
                    yield self._text(text, f"{shard}, row {row}")
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{shard}: not a readable Parquet file ({error})") from error

    def _text(self, value: object, where: str) -> str | None:
        if isinstance(value, str):
            return value or None
        if isinstance(value, UnicodeDecodeError):
            self._malformed(where, f"text that is not UTF-8 ({value.reason})", value)
        else:
            self._malformed(where, f"column {self.field!r} holds {type(value).__name__}, not text")
        return None


def _values(column: Any) -> list[object]:
    """Python's values of an Arrow column; for a text that is not UTF-8 the error."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:  # one of them: now each alone
        return [_value(scalar) for scalar in column]


def _value(scalar: Any) -> object:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return error


@dataclass
class HuggingFaceDataset(Source):
    """Any ``datasets`` dataset: a hub id, a local directory of data files, or one written by ``save_to_disk``.

    Attributes:
        path: hub id or directory.
        name: configuration of the dataset; null is its default one.
        split: e.g. ``train``, or ``train[:10%]`` for a part of it.
        revision: branch, tag or commit on the hub; null is the default branch.
        field: the column that holds the text.
    """

    path: str
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    field: str = "text"

    def check(self) -> None:
        """Raise ConfigError for a path where nothing is."""
        if is_meant_as_path(self.path) and not Path(self.path).exists():
            raise ConfigError(f"path: there is no {self.path!r}; {near_path(self.path)}give a directory or a hub id")

    def files_read(self) -> list[str]:
        return sorted(str(path) for path in Path(self.path).rglob("*") if path.is_file())

    def shards(self) -> list[str]:
        return [str(piece) for piece in range(min(_DATASET_PIECES, len(self._load())))]

    def read(self, shard: str) -> Iterator[str | None]:
        dataset = self._load()
        pieces = min(_DATASET_PIECES, len(dataset))
        for record in dataset.shard(pieces, int(shard), contiguous=True):
            text = record[self.field]
            if text is not None and not isinstance(text, str):
                raise DataError(f"{self.path}: column {self.field!r} holds {type(text).__name__}, not text")
            yield text or None

    def _saved(self, loaded: Any) -> Any:
        splits = loaded if isinstance(loaded, dict) else {str(loaded.split or "train"): loaded}
        if self.split not in splits:
            raise ConfigError(f"split: got {self.split!r}; {self.path!r}, a saved dataset, has {sorted(splits)}")
        return splits[self.split]

    def _load(self) -> Any:
        import datasets

        try:
            if Path(self.path, "dataset_info.json").exists() or Path(self.path, "dataset_dict.json").exists():
                dataset = self._saved(datasets.load_from_disk(self.path))
            else:
                with nullcontext() if Path(self.path).exists() else short_waits():
                    dataset = datasets.load_dataset(self.path, self.name, split=self.split, revision=self.revision)
        except IndexError:  # what `datasets` says of a saved dataset without any row
            raise DataError(f"{self.path}: an empty dataset") from None
        except (OSError, ValueError, KeyError, ConnectionError) as error:
            raise ConfigError(
                f"path: cannot read split {self.split!r} of dataset {self.path!r}{hub_note()} ({error})"
            ) from error
        if self.field not in dataset.column_names:
            raise ConfigError(f"field: {self.path!r} has no column {self.field!r}; it has {dataset.column_names[:8]}")
        return dataset
