"""Rows whose bytes are not those that were prepared: training, scoring and choosing stop with a message."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest

from remit_lit.data.columns import column_directory
from remit_lit.data.rows import PackedRows
from remit_lit.errors import ConfigError, DataError
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.score import score
from remit_lit.reference.subsets import read_subset, select
from remit_lit.weighting import MiniPLM, NextTokenPrediction
from tests.helpers import fit


def arrow_file(rows: Path) -> Path:
    (path,) = (rows / "train").glob("*.arrow")
    return path


def flip_a_token(rows: Path, row: int = 3) -> None:
    """Change one bit of a token of a row, where its bytes lie in the Arrow file."""
    token_ids = np.array(PackedRows(rows / "train")[row].input_ids, np.int32).tobytes()
    content = bytearray(arrow_file(rows).read_bytes())
    place = content.find(token_ids)
    assert place > 0
    content[place + 8] ^= 1
    arrow_file(rows).write_bytes(content)


@pytest.fixture
def damaged(rows: Path) -> Path:
    flip_a_token(rows)
    return rows


@pytest.mark.fault("a flipped bit in a row", "found when the row is read")
def test_a_flipped_bit_is_found_when_its_row_is_read(damaged: Path) -> None:
    packed = PackedRows(damaged / "train")
    packed.__getitems__([0, 1, 2])
    for indices in ([3], [0, 3]):
        with pytest.raises(
            DataError, match=r"rows: row 3 of .*train differs from its checksum; prepare the rows again"
        ):
            packed.__getitems__(indices)


@pytest.mark.fault("a flipped bit in a row's documents", "found when the row is read")
@pytest.mark.parametrize("field", ["document_lengths", "document_sources"])
def test_the_documents_of_a_row_are_checked_too(field: str, rows: Path, tmp_path: Path) -> None:
    split = datasets.load_from_disk(str(rows / "train"))
    content = split.to_dict()
    first = content[field][0]
    content[field][0] = (
        [first[0] - 1, first[1] + 1, *first[2:]] if field == "document_lengths" else [1 - s for s in first]
    )
    assert content[field][0] != split[0][field]
    datasets.Dataset.from_dict(content, split.features).save_to_disk(str(tmp_path / "changed"))
    shutil.copy(rows / "train" / "checksums.npy", tmp_path / "changed")
    packed = PackedRows(tmp_path / "changed")
    packed.__getitems__([1, 2])
    with pytest.raises(DataError, match=r"row 0 of .* differs from its checksum"):
        packed.__getitems__([0])


@pytest.mark.fault("a flipped bit in a row that is trained on", "the run stops and names the row")
def test_training_stops(damaged: Path, tiny_policy_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 3 of .* differs from its checksum"):
        fit(damaged, tiny_policy_dir, tmp_path, steps=27)


@pytest.mark.fault("a flipped bit in a row that is scored", "no column is made of it")
def test_no_column_is_bound_to_them(damaged: Path, tiny_policy_dir: Path) -> None:
    with pytest.raises(DataError, match=r"row 3 of .* differs from its checksum"):
        score(str(damaged), ModelSpec(str(tiny_policy_dir)), "nll_rl")
    assert not list(column_directory(damaged, "train", "nll_rl").glob("*.npy"))


@pytest.mark.fault("a flipped bit in a row of which rows are chosen", "none is chosen")
def test_none_of_them_is_chosen(rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path) -> None:
    for column, model in (("nll_base", tiny_policy_dir), ("nll_rl", tiny_reference_dir)):
        score(str(rows), ModelSpec(str(model)), column)
    flip_a_token(rows)
    with pytest.raises(DataError, match=r"row 3 of .* differs from its checksum"):
        select(str(rows), "nll_base", "nll_rl", "half")
    assert not (rows / "subsets").exists()


def read_all(rows: Path) -> None:
    packed = PackedRows(rows / "train")
    packed.__getitems__(list(range(len(packed))))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil(path: Path) -> None:
    path.write_bytes(b"\x00" * path.stat().st_size)


@pytest.mark.fault("a damaged file of rows", "refused by name")
@pytest.mark.parametrize("damage", [cut, spoil, Path.unlink], ids=["cut", "zeroed", "removed"])
@pytest.mark.parametrize("pattern", ["*.arrow", "state.json", "dataset_info.json", "checksums.npy"])
def test_damaged_files_are_named(pattern: str, damage: Callable[[Path], None], rows: Path) -> None:
    (path,) = (rows / "train").glob(pattern)
    damage(path)
    with pytest.raises((DataError, ConfigError), match=r"rows: .*train.*; prepare the rows again"):
        read_all(rows)


def test_a_state_of_another_form_is_named(rows: Path) -> None:
    (rows / "train" / "state.json").write_text(json.dumps({"_data_files": 3}))
    with pytest.raises(DataError, match=r"rows: .*train is damaged"):
        PackedRows(rows / "train")


@pytest.mark.fault("a flipped bit in a subset", "found when it is read")
def test_a_flipped_bit_of_a_subset_is_found(rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path) -> None:
    for column, model in (("nll_base", tiny_policy_dir), ("nll_rl", tiny_reference_dir)):
        score(str(rows), ModelSpec(str(model)), column)
    path = select(str(rows), "nll_base", "nll_rl", "half", weighting=MiniPLM(0.5)) / "rows.npy"
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"data\.subset: .*half is damaged"):
        read_subset(rows, "train", "half", NextTokenPrediction())
