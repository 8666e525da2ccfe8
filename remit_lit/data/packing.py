"""Which documents are taken, and where they stand in rows."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Layout:
    """Documents one after the other, cut into rows of equally many tokens.

    Attributes:
        lengths: tokens of each piece of a document, int32 [pieces].
        sources: source of each piece, int16 [pieces].
        offsets: first piece of each row, and the end of the last row, int32 [rows + 1].
    """

    lengths: np.ndarray
    sources: np.ndarray
    offsets: np.ndarray


def cut_rows(lengths: np.ndarray, sources: np.ndarray, sequence_length: int) -> Layout:
    """Cut documents into rows; tokens after the last whole row are left out.

    Args:
        lengths: tokens of each document, at least 1, int [documents].
        sources: source of each document, int16 [documents].
        sequence_length: tokens in a row.
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    num_rows = int(ends[-1]) // sequence_length if len(ends) else 0
    row_ends = np.arange(1, num_rows + 1, dtype=np.int64) * sequence_length
    cuts = np.union1d(ends[ends <= num_rows * sequence_length], row_ends)
    return Layout(
        np.diff(cuts, prepend=0).astype(np.int32),
        sources[np.searchsorted(ends, cuts, side="left")],
        np.concatenate([[0], np.searchsorted(cuts, row_ends, side="right")]).astype(np.int32),
    )


def choose_documents(lengths: np.ndarray, order: np.ndarray, tokens: int) -> np.ndarray:
    """The first documents of ``order`` that together hold at least ``tokens`` tokens."""
    return order[: int(np.searchsorted(np.cumsum(lengths[order]), tokens)) + 1]
