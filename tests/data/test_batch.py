"""A batch on its way to the step: its mask, its scores, and what Lightning and loaders do with it."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.plugins.precision import HalfPrecision
from lightning.pytorch.utilities.data import extract_batch_size
from torch import Tensor
from torchdata.stateful_dataloader import StatefulDataLoader

from remit_lit.data.batch import Batch
from remit_lit.data.rows import Collate, PackedRows, RankShare

META = torch.device("meta")


@pytest.fixture(scope="module")
def scores() -> np.ndarray:
    """NLLs by row, float32 [rows, time]."""
    return np.random.default_rng(0).normal(3, 2, (200, 132)).astype(np.float32)


@pytest.fixture
def packed(tiny_rows: Path, scores: np.ndarray) -> PackedRows:
    return PackedRows(tiny_rows / "train", {"nll": scores})  # type: ignore[dict-item]


@pytest.fixture
def batch(packed: PackedRows) -> Batch:
    return Collate(True)([packed[4], packed[9]])


def tensors(batch: Batch) -> list[Tensor]:
    values = [getattr(batch, f.name) for f in fields(batch)] + list(batch.scores.values())
    return [value for value in values if isinstance(value, Tensor)]


def test_scores_survive_a_cast_of_the_batch_to_half_precision(batch: Batch, scores: np.ndarray) -> None:
    cast = HalfPrecision("bf16-true").convert_input(batch)
    assert isinstance(cast, Batch)
    assert cast.nll("nll").dtype == torch.float32
    assert cast.nll("nll").tolist() == scores[[4, 9]].tolist()


@pytest.mark.parametrize("move", [Batch.to, move_data_to_device], ids=["by itself", "by Lightning"])
def test_a_batch_moves_as_a_whole_but_for_the_numbers_of_its_rows(batch: Batch, move: object) -> None:
    moved = move(batch, META)  # type: ignore[operator]
    assert isinstance(moved, Batch)
    assert len(tensors(moved)) == 7
    assert {tensor.device for tensor in tensors(moved) if tensor is not moved.rows} == {META}
    assert moved.rows.tolist() == [4, 9] and moved.packed and moved.num_counted == int(batch.mask.sum())
    assert {tensor.device.type for tensor in tensors(batch)} == {"cpu"}


def test_a_batch_is_pinned_as_a_whole(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor.to(META))
    assert {tensor.device for tensor in tensors(batch.pin_memory())} == {META}


def test_lightning_finds_the_number_of_rows(batch: Batch) -> None:
    assert extract_batch_size(batch) == 2  # type: ignore[arg-type]


def test_workers_hand_over_whole_batches(packed: PackedRows, scores: np.ndarray) -> None:
    loader = StatefulDataLoader(packed, batch_size=3, collate_fn=Collate(True), num_workers=2)
    for first, batch in zip((0, 3), loader, strict=False):
        assert isinstance(batch, Batch)
        assert batch.rows.tolist() == list(range(first, first + 3))
        assert batch.nll("nll").tolist() == scores[first : first + 3].tolist()


def test_the_mask_is_where_there_are_targets(packed: PackedRows) -> None:
    batch = Collate(True)([packed[0], packed[5]])
    assert batch.mask.dtype == torch.bool
    assert batch.mask.tolist() == [[target >= 0 for target in row] for row in batch.targets.tolist()]
    assert not batch.mask[:, -1].any() and batch.mask.any(dim=1).all()


def test_a_row_that_fills_up_a_share_does_not_count(packed: PackedRows) -> None:
    last = RankShare(packed, 2, len(packed) - 1)[1]
    assert last.number == -1
    assert not Collate(True)([last]).mask.any()
