"""datatrove's readers as sources: JSON lines, Parquet, WARC or hub datasets, here, on S3, GCS or a hub."""

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from remit_lit.data.sources import MalformedRecord, Source
from remit_lit.errors import ConfigError, DataError

# Each reader's own count and order, which would depend on how many shards there are.
_REFUSED = {"limit": "num_tokens", "skip": "another source", "shuffle_files": "seed"}
_EMPTY = "Found document without text"  # the beginning of a warning of each reader on the first such record


class DatatroveReader(Source):
    """Documents of a reader of datatrove, whose paths may be those of any filesystem of fsspec.

    A shard is a file; of a reader without files, one of ``pieces``. Needs the extra ``datatrove``.

    Args:
        reader: class path, e.g. ``datatrove.pipeline.readers.ParquetReader``.
        arguments: of the reader, e.g. {data_folder: "s3://bucket/web", glob_pattern: "*.parquet"}.
        on_malformed: "raise" stops at a record that the reader would pass over with a warning; "skip" counts it in the
            manifest and goes on.
        pieces: shards of a reader without files, such as HuggingFaceDatasetReader.
    """

    def __init__(
        self,
        reader: str,
        arguments: dict[str, Any],
        on_malformed: Literal["raise", "skip"] = "raise",
        pieces: int = 64,
    ) -> None:
        self.reader, self.arguments, self.on_malformed, self.pieces = reader, arguments, on_malformed, pieces

    def check(self) -> None:
        """Raise ConfigError where there is no such reader, or it refuses its arguments."""
        self._open()

    def shards(self) -> list[str]:
        reader = self._open()
        if not hasattr(reader, "read_file"):
            return [str(piece) for piece in range(self.pieces)]
        try:
            return sorted(_files(reader))
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(f"arguments: {self.reader} lists no files ({error})") from error

    def files_read(self) -> list[str]:
        reader = self._open()
        if not hasattr(reader, "read_file"):
            return []
        paths = [reader.data_folder.resolve_paths(shard) for shard in self.shards()]
        return [path for path in paths if Path(path).is_file()]  # those of a storage are none here

    def read(self, shard: str) -> Iterator[str | None]:
        reader = self._open()
        has_files = hasattr(reader, "read_file")
        where = reader.data_folder.resolve_paths(shard) if has_files else f"{self.reader}, piece {shard}"
        watch = _Watch(reader, where, self.on_malformed, adapts="adapter" in self.arguments)
        documents = reader.read_file(shard) if has_files else reader.run(None, int(shard), self.pieces)
        with watch.warnings():
            while True:
                try:
                    document = next(documents, None)
                except DataError:
                    raise
                except Exception as error:  # whatever the library of a format or of a filesystem raises
                    raise DataError(f"{where}: cannot be read after record {watch.records} ({error})") from error
                yield from [None] * watch.passed_over()
                if document is None and watch.cut is not None:
                    raise DataError(f"{where}: cannot be read after record {watch.records} ({watch.cut})")
                if document is None:
                    return
                yield document.text

    def _open(self) -> Any:
        for name, instead in _REFUSED.items():
            if name in self.arguments:
                raise ConfigError(f"arguments.{name}: got {self.arguments[name]!r}; leave it out, and use {instead}")
        if importlib.util.find_spec("datatrove") is None:
            raise ConfigError("reader: needs datatrove; pip install 'remit_lit[datatrove]'")
        module, _, name = self.reader.rpartition(".")
        try:
            kind = getattr(importlib.import_module(module), name)
            return kind(**self.arguments)
        except (AttributeError, ModuleNotFoundError, ValueError) as error:
            raise ConfigError(f"reader: got {self.reader!r} ({error}); give the class path of a reader") from error
        except ImportError as error:  # what datatrove says of a format whose library is missing
            raise ConfigError(f"reader: {error}") from error
        except TypeError as error:
            raise ConfigError(f"arguments: {error}") from error


def _files(reader: Any) -> list[str]:
    if reader.paths_file is None:
        return reader.data_folder.list_files(recursive=reader.recursive, glob_pattern=reader.glob_pattern)
    from datatrove.io import get_shard_from_paths_file

    return list(get_shard_from_paths_file(reader.paths_file, 0, 1))


class _Watch:
    """Sees the records of a reader that it would pass over in silence or with a warning.

    Attributes:
        records: that it has read.
        cut: what a file said that ended before its end, which a library may take for the end: warcio does.
    """

    def __init__(self, reader: Any, where: str, on_malformed: str, *, adapts: bool) -> None:
        self.records = self._passed_over = 0
        self._has_files = hasattr(reader, "read_file")
        self._where, self._raises, self._adapts = where, on_malformed == "raise", adapts
        self.cut: EOFError | None = None
        self._key, self._make = reader.text_key, reader.get_document_from_dict
        reader.get_document_from_dict = self._document
        if type(reader).__name__ == "WarcReader":
            self._open = reader.data_folder.open
            reader.data_folder.open = lambda *args, **options: _Stream(self._open(*args, **options), self)

    def passed_over(self) -> int:
        """How many records gave no document since this was last asked."""
        count, self._passed_over = self._passed_over, 0
        return count

    def _document(self, data: dict[str, Any], source_file: str, id_in_file: int | str) -> Any:
        text = data.get(self._key)
        if not self._adapts and not isinstance(text, str):
            has = (
                f"holds {type(text).__name__}, not text"
                if self._key in data
                else f"is missing; it has {sorted(data)[:8]}"
            )
            self._malformed(f"field {self._key!r} {has}")
            return None
        document = self._make(data, source_file, id_in_file)
        self.records += 1
        if document is None:
            self._passed_over += 1
        return document

    def _malformed(self, problem: str) -> None:
        self.records += 1
        self._passed_over += 1
        if self._raises:
            raise MalformedRecord.at(f"{self._where}, record {self.records}", problem)

    @contextlib.contextmanager
    def warnings(self) -> Iterator[None]:
        """Within, a warning of a reader of files is of a malformed record."""
        from loguru import logger

        def warn(message: Any) -> None:
            if self._has_files and not message.startswith(_EMPTY):
                self._malformed(str(message).strip())

        sink = logger.add(warn, level="WARNING", format="{message}", catch=False)
        try:
            yield
        finally:
            logger.remove(sink)


class _Stream:
    """A file that tells its watch where it ended before its end."""

    def __init__(self, stream: Any, watch: _Watch) -> None:
        self._stream, self._watch = stream, watch

    def read(self, *size: int) -> bytes:
        try:
            found: bytes = self._stream.read(*size)
        except EOFError as error:
            self._watch.cut = error
            raise
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
