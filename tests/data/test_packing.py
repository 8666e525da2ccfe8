"""Where each token of each document stands, against lists of tokens concatenated by hand."""

import itertools
import random
from pathlib import Path

import datasets
import numpy as np
import pytest

import remit_lit.data.row_files as row_files
from remit_lit.data.packing import choose_documents, cut_rows
from remit_lit.data.row_files import RowWriter


def documents_of(seed: int, count: int, longest: int) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(1000) for _ in range(rng.randint(1, longest))] for _ in range(count)]


def add(writer: RowWriter, documents: list[list[int]], sources: list[int]) -> None:
    tokens = np.array([token for document in documents for token in document], np.int32)
    writer.add(tokens, np.array([len(document) for document in documents]), np.array(sources, np.int16))


@pytest.mark.parametrize("at_once", [1, 7, 60])
@pytest.mark.parametrize("sequence_length", [2, 3, 10, 64, 500])
@pytest.mark.parametrize("longest", [1, 4, 40])
def test_rows_are_the_concatenation_cut_into_equal_pieces(
    at_once: int, sequence_length: int, longest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_files, "_ROWS_PER_BATCH", 4)
    monkeypatch.setattr(row_files, "_FILE_BYTES", 11 * 4 * sequence_length)
    documents = documents_of(longest, 60, longest)
    sources = [document[0] % 3 for document in documents]
    joined = [(token, place, sources[place]) for place, document in enumerate(documents) for token in document]
    writer = RowWriter(tmp_path / "rows", sequence_length)
    for start in range(0, 60, at_once):
        add(writer, documents[start : start + at_once], sources[start : start + at_once])
    assert writer.num_rows == len(joined) // sequence_length
    if not writer.num_rows:
        return
    writer.close()
    assert writer.left_over == len(joined) % sequence_length
    assert len(list((tmp_path / "rows").glob("*.arrow"))) == -(-writer.num_rows // 11)
    rows = datasets.load_from_disk(str(tmp_path / "rows"))
    assert len(rows) == writer.num_rows
    for index, row in enumerate(rows):
        expected = joined[index * sequence_length : (index + 1) * sequence_length]
        assert row["input_ids"] == [token for token, _, _ in expected]
        pieces = [(key, len(list(group))) for key, group in itertools.groupby(expected, key=lambda item: item[1:])]
        assert row["document_lengths"] == [length for _, length in pieces]
        assert row["document_sources"] == [source for (_, source), _ in pieces]


def test_a_stage_begins_with_a_row(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path / "rows", 4)
    for stage in ([[1, 1, 1], [2, 2, 2]], [[3, 3, 3], [4, 4, 4]]):
        add(writer, stage, [0, 0])
        writer.end_stage()
    assert writer.close()["input_ids"][:] == [[1, 1, 1, 2], [3, 3, 3, 4]]
    assert writer.left_over == 4


def test_no_documents_are_no_rows() -> None:
    layout = cut_rows(np.zeros(0, np.int64), np.zeros(0, np.int16), 8)
    assert (layout.lengths.tolist(), layout.sources.tolist(), layout.offsets.tolist()) == ([], [], [0])


@pytest.mark.parametrize("tokens", [1, 4, 5, 6, 14, 15])
def test_as_few_documents_as_hold_the_tokens_are_chosen(tokens: int) -> None:
    lengths, order = np.array([5, 1, 4, 3, 2]), np.array([2, 1, 0, 4, 3])
    chosen = choose_documents(lengths, order, tokens)
    assert chosen.tolist() == order[: len(chosen)].tolist()
    assert lengths[chosen].sum() >= tokens
    assert lengths[chosen[:-1]].sum() < tokens
