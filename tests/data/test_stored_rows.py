"""Rows read from their files one by one, against `datasets`; and what starting costs, whatever their number."""

import json
import os
import pickle
from pathlib import Path

import datasets
import numpy as np
import pytest

import remit_lit.data.row_files as row_files
import remit_lit.data.stored_rows as module
from remit_lit.data.prepare import prepare
from remit_lit.data.rows import PackedRows
from remit_lit.data.settings import PrepareSettings
from remit_lit.errors import DataError
from tests.data.texts import Texts, corpus


@pytest.fixture
def split(byte_tokenizer_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows in many files of a few batches each."""
    monkeypatch.setattr(row_files, "_FILE_BYTES", 7 * 4 * 16)
    monkeypatch.setattr(row_files, "_ROWS_PER_BATCH", 3)
    settings = PrepareSettings(str(byte_tokenizer_dir), {"web": Texts(corpus("web", 60))}, 16, validation_share=0.0)
    return prepare(tmp_path / "rows", settings) / "train"


def require_rows(directory: Path, packed: PackedRows) -> None:
    expected = datasets.load_from_disk(str(directory))
    assert len(packed) == len(expected) > 50
    for number in np.random.default_rng(0).permutation(len(packed)).tolist():
        row = packed[number]
        assert row.input_ids.tolist() == expected[number]["input_ids"]
        assert row.document_lengths.tolist() == expected[number]["document_lengths"]
        assert row.document_sources.tolist() == expected[number]["document_sources"]


def test_rows_are_those_that_datasets_reads(split: Path) -> None:
    require_rows(split, PackedRows(split))


@pytest.mark.parametrize("num_shards", [1, 7])
def test_rows_that_datasets_itself_saved_are_read_too(num_shards: int, split: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    datasets.load_from_disk(str(split)).save_to_disk(str(saved), num_shards=num_shards)
    os.link(split / "checksums.npy", saved / "checksums.npy")
    require_rows(saved, PackedRows(saved))


def open_files() -> int:
    return sum(".arrow" in line for line in Path("/proc/self/maps").read_text().splitlines())


def test_few_files_are_open_at_a_time(split: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_OPEN", 2)
    before = open_files()
    packed = PackedRows(split)
    assert open_files() == before
    for number in range(len(packed)):
        packed.__getitems__([number])
        assert open_files() <= before + 3


def test_another_process_opens_files_of_its_own(split: Path) -> None:
    packed = PackedRows(split)
    first = packed[0]
    assert (pickle.loads(pickle.dumps(packed))[0].input_ids == first.input_ids).all()


def test_numbers_of_rows_that_do_not_fit_are_named(split: Path) -> None:
    state = json.loads((split / "state.json").read_text())
    state["_data_files"][0]["rows"] -= 1
    (split / "state.json").write_text(json.dumps(state))
    with pytest.raises(DataError, match=r"rows: .*train is damaged \(state\.json says \d+ rows, not \d+\)"):
        PackedRows(split)
    state["_data_files"][1]["rows"] += 1
    (split / "state.json").write_text(json.dumps(state))
    with pytest.raises(DataError, match=r"rows: .*train is damaged \(data-00000\.arrow has 7 rows, not 6\)"):
        PackedRows(split)[0]
