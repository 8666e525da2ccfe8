"""Where each token of each document stands, against lists of tokens concatenated by hand."""

import itertools
import random

import numpy as np
import pyarrow as pa
import pytest

from remit_lit.data.packing import Packing, TokenStore, choose_documents

TOKENS = pa.list_(pa.int32())


def documents_of(seed: int, count: int, longest: int) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(1000) for _ in range(rng.randint(1, longest))] for _ in range(count)]


def chunked_tables(documents: list[list[int]]) -> list[pa.Table]:
    """Three tables: of several chunks, of a chunk that is a slice of a longer array, and of one chunk."""
    a, b = len(documents) // 3, 2 * len(documents) // 3
    several = pa.chunked_array([pa.array(documents[: a // 2], TOKENS), pa.array(documents[a // 2 : a], TOKENS)])
    padded = pa.array([[7, 7, 7], *documents[a:b], [8, 8]], TOKENS).slice(1, b - a)
    last = pa.array(documents[b:], TOKENS)
    return [pa.table({"input_ids": column}) for column in (several, padded, last)]


def test_a_store_numbers_documents_through_all_tables_and_chunks() -> None:
    documents = documents_of(0, 31, 9)
    store = TokenStore(chunked_tables(documents))
    assert store.lengths().tolist() == [len(document) for document in documents]
    for index, document in enumerate(documents):
        for start, stop in itertools.combinations(range(len(document) + 1), 2):
            assert store.tokens(index, start, stop).tolist() == document[start:stop]


def test_a_store_keeps_count_of_documents_without_tokens() -> None:
    documents = [[], [1, 2], [], [], [3], []]
    store = TokenStore([pa.table({"input_ids": pa.array(documents, TOKENS)})])
    assert store.lengths().tolist() == [0, 2, 0, 0, 1, 0]
    assert store.tokens(1, 0, 2).tolist() == [1, 2]
    assert store.tokens(4, 0, 1).tolist() == [3]


@pytest.mark.parametrize("sequence_length", [2, 3, 10, 64, 500])
@pytest.mark.parametrize("longest", [1, 4, 40])
def test_rows_are_the_concatenation_cut_into_equal_pieces(sequence_length: int, longest: int) -> None:
    documents = documents_of(longest, 60, longest)
    store = TokenStore(chunked_tables(documents))
    order = np.random.default_rng(1).permutation(len(documents))
    sources = np.array([document[0] % 3 for document in documents], np.int16)
    packing = Packing(order, np.cumsum(store.lengths()[order]), sources[order], sequence_length)
    joined = [(token, place, sources[d]) for place, d in enumerate(order) for token in documents[d]]
    assert packing.num_rows == len(joined) // sequence_length
    rows = list(packing.rows(0, packing.num_rows, store))
    assert len(rows) == packing.num_rows
    for index, row in enumerate(rows):
        expected = joined[index * sequence_length : (index + 1) * sequence_length]
        assert row["input_ids"].tolist() == [token for token, _, _ in expected]
        pieces = [(key, len(list(group))) for key, group in itertools.groupby(expected, key=lambda item: item[1:])]
        assert row["document_lengths"].tolist() == [length for _, length in pieces]
        assert row["document_sources"].tolist() == [source for (_, source), _ in pieces]


def test_any_range_of_rows_can_be_asked_for() -> None:
    documents = documents_of(5, 40, 12)
    store = TokenStore(chunked_tables(documents))
    order = np.arange(len(documents))
    packing = Packing(order, np.cumsum(store.lengths()), np.zeros(len(documents), np.int16), 16)
    whole = [row["input_ids"].tolist() for row in packing.rows(0, packing.num_rows, store)]
    for start, stop in [(0, 1), (3, 7), (packing.num_rows - 1, packing.num_rows), (4, 4)]:
        assert [row["input_ids"].tolist() for row in packing.rows(start, stop, store)] == whole[start:stop]


def test_no_documents_are_no_rows() -> None:
    nothing = np.zeros(0, np.int64)
    assert Packing(nothing, nothing, nothing.astype(np.int16), 8).num_rows == 0


@pytest.mark.parametrize("tokens", [1, 4, 5, 6, 14, 15])
def test_as_few_documents_as_hold_the_tokens_are_chosen(tokens: int) -> None:
    lengths, order = np.array([5, 1, 4, 3, 2]), np.array([2, 1, 0, 4, 3])
    chosen = choose_documents(lengths, order, tokens)
    assert chosen.tolist() == order[: len(chosen)].tolist()
    assert lengths[chosen].sum() >= tokens
    assert lengths[chosen[:-1]].sum() < tokens
