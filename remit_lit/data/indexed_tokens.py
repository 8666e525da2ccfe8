"""Documents that are tokenised already, with an index of where each ends: of Megatron-LM and of datatrove."""

import struct
from abc import abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from remit_lit.data.token_files import PIECE_TOKENS, TokenSource, open_ids, within_vocabulary
from remit_lit.errors import ConfigError, DataError
from remit_lit.files import matching_files

_MEGATRON_HEADER = b"MMIDIDX\x00\x00"
# Megatron-LM, megatron/core/datasets/indexed_dataset.py, DType; its two kinds of float hold no ids.
_MEGATRON_DTYPES = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 8: "uint16"}


class _IndexedTokens(TokenSource):
    """A file of ids, and where its documents end."""

    def shards(self) -> list[str]:
        pieces = []
        for path in matching_files(self.files):
            tokens, ends = self._open(path)
            cuts = np.searchsorted(ends, np.arange(PIECE_TOKENS, len(tokens), PIECE_TOKENS), side="right")
            firsts = [*np.unique(np.append(0, cuts)).tolist(), len(ends)]
            pieces += [f"{first}:{stop}:{path}" for first, stop in pairwise(firsts) if first < stop]
        return pieces

    def read_ids(self, shard: str, vocabulary: int) -> Iterator[np.ndarray]:
        first, stop, path = shard.split(":", 2)
        tokens, ends = self._open(path)
        begin = int(ends[int(first) - 1]) if int(first) else 0
        for end in ends[int(first) : int(stop)].tolist():
            yield within_vocabulary(path, begin, tokens[begin:end], vocabulary)
            begin = end

    @abstractmethod
    def _open(self, path: str) -> tuple[np.ndarray, np.ndarray]:
        """The ids of a file, [tokens], and the token after each document, int64 [documents].

        Raises:
            DataError: the index is missing or damaged, or is not that of the file; names it.
        """


def _checked(path: str, index: Path, tokens: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if (np.diff(ends, prepend=0) < 0).any():
        raise DataError(f"{index}: the documents do not end one after the other; write it again")
    said = int(ends[-1]) if len(ends) else 0
    if said != len(tokens):
        raise DataError(f"{path}: holds {len(tokens)} tokens, but {index.name} says {said}; write both again")
    return tokens, ends


class MegatronFiles(_IndexedTokens):
    """Token ids of Megatron-LM's ``preprocess_data.py``: ``NAME.bin`` with ``NAME.idx`` beside it.

    A document that was not written with its EOS (``--append-eod``) is ended by one.

    Args:
        files: paths or glob patterns of the ``.bin`` files.
        end: id that ends a document, which must be the tokenizer's EOS.

    Raises:
        ConfigError: a file is none of ``.bin``.
    """

    def __init__(self, files: str | list[str], end: int) -> None:
        super().__init__(files, end)
        for entry in self.files:
            if not entry.endswith(".bin"):
                raise ConfigError(f"files: got {entry!r}; give the .bin files, whose .idx lie beside them")

    def _open(self, path: str) -> tuple[np.ndarray, np.ndarray]:
        index = Path(path).with_suffix(".idx")
        content = _read_index(index)
        size = len(_MEGATRON_HEADER)
        if content[:size].tobytes() != _MEGATRON_HEADER:
            raise DataError(f"{index}: is no index of Megatron-LM (it does not begin with MMIDIDX)")
        head = struct.Struct("<QBQQ")
        if len(content) < size + head.size:
            raise DataError(f"{index}: is cut short at {len(content)} bytes; write it again")
        version, code, num_sequences, num_documents = head.unpack(content[size : size + head.size].tobytes())
        if version != 1 or code not in _MEGATRON_DTYPES:
            raise DataError(f"{index}: version {version} with ids of kind {code}; it must be 1, with whole numbers")
        size += head.size
        if len(content) < size + 12 * num_sequences + 8 * num_documents:
            raise DataError(f"{index}: is cut short at {len(content)} bytes; write it again")
        lengths = np.frombuffer(content, "<i4", num_sequences, size)
        pointers = np.frombuffer(content, "<i8", num_sequences, size + 4 * num_sequences)
        documents = np.frombuffer(content, "<i8", num_documents, size + 12 * num_sequences)
        dtype = np.dtype(_MEGATRON_DTYPES[code])
        ends = np.cumsum(lengths, dtype=np.int64)
        if (pointers != (ends - lengths) * dtype.itemsize).any():
            raise DataError(f"{index}: its sequences do not follow each other; write it again")
        # It begins with 0, and then has the sequence after each document.
        if not num_documents or documents[0] != 0 or documents[-1] != num_sequences:
            raise DataError(f"{index}: its documents are not those of its {num_sequences} sequences; write it again")
        if (np.diff(documents) < 0).any():
            raise DataError(f"{index}: the documents do not end one after the other; write it again")
        return _checked(path, index, open_ids(path, dtype), np.append(0, ends)[documents[1:]])


class DatatroveTokens(_IndexedTokens):
    """Token ids of datatrove's ``DocumentTokenizer``: ``NAME.ds`` with ``NAME.ds.index`` beside it.

    A document that was not written with its EOS is ended by one.

    Args:
        files: paths or glob patterns of the ``.ds`` files.
        end: id that ends a document, which must be the tokenizer's EOS.
        dtype: of the ids; null reads it from ``NAME.ds.metadata``.

    Raises:
        ConfigError: ``dtype`` is neither uint16 nor uint32.
    """

    def __init__(self, files: str | list[str], end: int, dtype: Literal["uint16", "uint32"] | None = None) -> None:
        if dtype not in ("uint16", "uint32", None):
            raise ConfigError(f"dtype: got {dtype!r}; give 'uint16', 'uint32' or null")
        super().__init__(files, end)
        self.dtype = dtype

    def _open(self, path: str) -> tuple[np.ndarray, np.ndarray]:
        if Path(f"{path}.loss").exists():
            raise DataError(f"{path}: has a loss mask in {path}.loss, which rows cannot keep; tokenize without one")
        index = Path(f"{path}.index")
        content = _read_index(index)
        if len(content) % 8:
            raise DataError(f"{index}: {len(content)} bytes are no whole number of uint64; write it again")
        ends = np.frombuffer(content, "<u8").astype(np.int64)
        return _checked(path, index, open_ids(path, self._dtype(path)), ends)

    def _dtype(self, path: str) -> np.dtype:
        metadata = Path(f"{path}.metadata")
        sizes = {"2": "uint16", "4": "uint32"}
        try:
            written = sizes.get(metadata.read_text().splitlines()[0].rsplit("|", 1)[-1])
        except (OSError, IndexError, UnicodeDecodeError):
            written = None
        if written is None and self.dtype is None:
            raise DataError(f"{path}: no {metadata.name} says of what size its ids are; give dtype")
        if None not in (written, self.dtype) and written != self.dtype:
            raise DataError(
                f"{path}: dtype is {self.dtype}, but {metadata.name} says {written}; give that one, or null"
            )
        return np.dtype(self.dtype or written)


def _read_index(path: Path) -> np.ndarray:
    """The bytes of a file, memory-mapped, uint8 [bytes].

    Raises:
        DataError: it is not there.
    """
    if not path.is_file():
        raise DataError(f"{path}: is missing, which says where the documents end; write it again")
    return np.memmap(path, np.uint8, mode="r") if path.stat().st_size else np.zeros(0, np.uint8)
