"""Which token of which document stands where: documents are concatenated in one seeded order and cut into rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa


class TokenStore:
    """The tokens of many documents, memory-mapped; documents are numbered across all tables."""

    def __init__(self, tables: Sequence[pa.Table]) -> None:
        chunks = [chunk for table in tables for chunk in table.column("input_ids").chunks]
        self._tokens = [chunk.values.to_numpy() for chunk in chunks]
        self._offsets = [chunk.offsets.to_numpy() for chunk in chunks]
        self._first = np.cumsum([0, *(len(chunk) for chunk in chunks)])

    def lengths(self) -> np.ndarray:
        """Tokens of each document, int64 [documents]."""
        return np.concatenate([np.diff(offsets) for offsets in self._offsets]).astype(np.int64)

    def tokens(self, document: int, start: int, stop: int) -> np.ndarray:
        """Tokens ``start`` to ``stop`` of a document, int32 [stop - start], without a copy."""
        chunk = int(np.searchsorted(self._first, document, side="right")) - 1
        base = self._offsets[chunk][document - self._first[chunk]]
        return self._tokens[chunk][base + start : base + stop]


@dataclass(frozen=True)
class Packing:
    """A layout of documents in rows of ``sequence_length`` tokens; tokens after the last whole row are left out.

    Attributes:
        order: documents in the order in which they are concatenated, int64 [chosen].
        ends: position after the last token of each of them in the concatenation, int64 [chosen].
        sources: source of each of them, int16 [chosen].
        sequence_length: tokens in a row.
    """

    order: np.ndarray
    ends: np.ndarray
    sources: np.ndarray
    sequence_length: int

    @property
    def num_rows(self) -> int:
        return int(self.ends[-1]) // self.sequence_length if len(self.ends) else 0

    def rows(self, start: int, stop: int, store: TokenStore) -> Iterator[dict[str, np.ndarray]]:
        """Rows ``start`` to ``stop``: ``input_ids`` [time], and length and source of each piece of a document in it."""
        for row in range(start, stop):
            first, last = row * self.sequence_length, (row + 1) * self.sequence_length
            document = int(np.searchsorted(self.ends, first, side="right"))
            pieces, lengths, sources = [], [], []
            while first < last:
                begin = int(self.ends[document - 1]) if document else 0
                end = min(int(self.ends[document]), last)
                if end > first:
                    pieces.append(store.tokens(int(self.order[document]), first - begin, end - begin))
                    lengths.append(end - first)
                    sources.append(self.sources[document])
                first, document = end, document + 1
            yield {
                "input_ids": np.concatenate(pieces),
                "document_lengths": np.array(lengths, dtype=np.int32),
                "document_sources": np.array(sources, dtype=np.int16),
            }


def choose_documents(lengths: np.ndarray, order: np.ndarray, tokens: int) -> np.ndarray:
    """The first documents of ``order`` that together hold at least ``tokens`` tokens."""
    return order[: int(np.searchsorted(np.cumsum(lengths[order]), tokens)) + 1]
