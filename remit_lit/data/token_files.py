"""Documents that are tokenised already: raw memory maps of token ids, as OLMo's authors publish them."""

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from remit_lit.data.sources import Source
from remit_lit.errors import ConfigError, DataError
from remit_lit.files import matching_files

PIECE_TOKENS = 16 * 2**20
"""A file is cut into pieces of about so many tokens, so that one large file keeps several workers busy."""


class TokenSource(Source):
    """Token ids in files, which no tokenizer need run over.

    Args:
        files: paths or glob patterns; each pattern's files in alphabetical order.
        end: id that ends a document, which must be the tokenizer's EOS.
    """

    def __init__(self, files: str | list[str], end: int) -> None:
        self.files, self.end = [files] if isinstance(files, str) else files, end

    def check(self) -> None:
        """Raise ConfigError where a pattern matches no file."""
        matching_files(self.files)

    def files_read(self) -> list[str]:
        return matching_files(self.files)

    def read(self, shard: str) -> Iterator[str | None]:
        """Refused: there is no text.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{type(self).__name__}: {shard.rsplit(':', 1)[-1]} holds tokens; give a source of text")

    @abstractmethod
    def read_ids(self, shard: str, vocabulary: int) -> Iterator[np.ndarray]:
        """The documents of one shard in order, int32 [tokens]; one that ``end`` does not end, is ended by it later.

        Raises:
            DataError: an id that is not below ``vocabulary``; names file and token.
        """


def within_vocabulary(path: str, begin: int, document: np.ndarray, vocabulary: int) -> np.ndarray:
    """A document, int32 [tokens], which begins at token ``begin`` of a file.

    Raises:
        DataError: an id that is not in the vocabulary; names file and token.
    """
    for place in (document.argmax(), document.argmin()) if len(document) else ():
        if not 0 <= document[place] < vocabulary:
            raise DataError(
                f"{path}, token {begin + place}: id {document[place]}, but the tokenizer has {vocabulary} tokens"
            )
    return document.astype(np.int32)


def open_ids(path: str, dtype: np.dtype) -> np.ndarray:
    """The ids of a file without a header, memory-mapped, [tokens].

    Raises:
        DataError: its size is no whole number of ids.
    """
    item, size = dtype.newbyteorder("<"), Path(path).stat().st_size
    if size % item.itemsize:
        raise DataError(f"{path}: {size} bytes are no whole number of {dtype}; give the right dtype")
    return np.memmap(path, item, mode="r") if size else np.zeros(0, item)


class TokenFiles(TokenSource):
    """Raw token ids without a header, little-endian; each document ends with the id ``end``.

    OLMo's ``.npy`` files are of this kind (``memmap_dtype`` of its configs), in spite of their name.

    Args:
        files: paths or glob patterns; each pattern's files in alphabetical order.
        end: id that ends a document, which must be the tokenizer's EOS: 100257 for dolma2.
        dtype: of the ids.

    Raises:
        ConfigError: ``dtype`` is neither uint16 nor uint32.
    """

    def __init__(self, files: str | list[str], end: int, dtype: Literal["uint16", "uint32"] = "uint32") -> None:
        if dtype not in ("uint16", "uint32"):
            raise ConfigError(f"dtype: got {dtype!r}; give 'uint16' or 'uint32'")
        super().__init__(files, end)
        self.dtype = dtype

    def shards(self) -> list[str]:
        pieces: list[str] = []
        for path in matching_files(self.files):
            pieces += [f"{start}:{path}" for start in range(0, len(self._open(path)), PIECE_TOKENS)]
        return pieces

    def read_ids(self, shard: str, vocabulary: int) -> Iterator[np.ndarray]:
        offset, path = shard.split(":", 1)
        tokens, begin = self._open(path), int(offset)
        stop = min(begin + PIECE_TOKENS, len(tokens))
        if begin:
            begin = self._next_end(tokens, begin - 1)  # a document belongs to the piece in which it starts
        within = tokens[begin:stop]
        ends = (np.flatnonzero(within == self.end) + begin + 1).tolist()
        if begin < stop and (not ends or ends[-1] < stop):
            ends.append(self._next_end(tokens, stop))
        for after in ends:
            yield within_vocabulary(path, begin, tokens[begin:after], vocabulary)
            begin = after

    def _next_end(self, tokens: np.ndarray, start: int) -> int:
        """Position after the first ``end`` at or after ``start``, or the end of the file."""
        for begin in range(start, len(tokens), 2**20):
            found = np.flatnonzero(tokens[begin : begin + 2**20] == self.end)
            if len(found):
                return begin + int(found[0]) + 1
        return len(tokens)

    def _open(self, path: str) -> np.ndarray:
        with open(path, "rb") as stream:
            if stream.read(6) == b"\x93NUMPY":
                raise DataError(f"{path}: has NumPy's header; write the bare ids with `.tofile`")
        return open_ids(path, np.dtype(self.dtype))
