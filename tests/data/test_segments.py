"""Documents in files by part: what is taken, what is left, and what leaves the disk."""

from pathlib import Path

import numpy as np
import pytest

from remit_lit.data.segments import Records, Segment

PARTS = 4
DOCUMENTS = [([1, 1, 1], 2), ([], 0), ([2], 0), ([3, 3], 2), ([4] * 5, 3), ([], 3), ([5, 5], 0)]  # tokens, part


def segment_of(path: Path, documents: list[tuple[list[int], int]]) -> Segment:
    records = Records(
        np.array([len(tokens) for tokens, _ in documents], np.int32),
        np.array([10 * len(tokens) for tokens, _ in documents]),
        np.array([part for _, part in documents], np.int32),
    )
    return Segment.write(path, np.array([t for tokens, _ in documents for t in tokens], np.int32), records, PARTS)


def expected(documents: list[tuple[list[int], int]], part: int) -> tuple[list[int], list[int]]:
    chosen = [tokens for tokens, of in documents if of == part and tokens]
    return [token for tokens in chosen for token in tokens], [len(tokens) for tokens in chosen]


def popped(segment: Segment) -> tuple[list[int], list[int]]:
    tokens, lengths = segment.pop()
    return tokens.tolist(), lengths.tolist()


def test_parts_are_taken_from_the_last_one_on_and_leave_the_disk(tmp_path: Path) -> None:
    segment = segment_of(tmp_path / "a", DOCUMENTS)
    left = sum(len(tokens) for tokens, _ in DOCUMENTS)
    for part in reversed(range(PARTS)):
        tokens, lengths = expected(DOCUMENTS, part)
        assert popped(segment) == (tokens, lengths)
        left -= len(tokens)
        assert (tmp_path / "a").stat().st_size == 4 * left
    assert (tmp_path / "a.lengths").stat().st_size == 0


@pytest.mark.parametrize("number", range(len(DOCUMENTS) + 1))
def test_a_segment_is_split_at_any_record(number: int, tmp_path: Path) -> None:
    halves = segment_of(tmp_path / "a", DOCUMENTS).split(number)
    assert not (tmp_path / "a").exists()
    for half, documents in zip(halves, (DOCUMENTS[:number], DOCUMENTS[number:]), strict=True):
        assert half.records.bytes.tolist() == [10 * len(tokens) for tokens, _ in documents]
        for part in reversed(range(PARTS)):
            assert popped(half) == expected(documents, part)
