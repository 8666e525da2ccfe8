"""Batches against loops, the order of rows across ranks and workers, and rows that do not belong to the run."""

import itertools
import math
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from remit_lit.data.lab_documents import LabDocuments
from remit_lit.data.manifest import read_manifest
from remit_lit.data.rows import Collate, PackedRows, Row, ShuffledBatches
from remit_lit.data.settings import PrepareSettings
from remit_lit.errors import ConfigError
from remit_lit.training.datamodule import PackedData
from tests.columns import slow_nll
from tests.helpers import Run, build, make_rows


def batches_of(world_size: int, batch_size: int, num_batches: int, rows: int = 37, seed: int = 3) -> list[list[int]]:
    """Rows of each step, of all ranks."""
    ranks = [list(ShuffledBatches(rows, batch_size, num_batches, seed, rank, world_size)) for rank in range(world_size)]
    assert all(len(rank) == num_batches and all(len(batch) == batch_size for batch in rank) for rank in ranks)
    return [[row for batch in step for row in batch] for step in zip(*ranks, strict=True)]


@pytest.mark.parametrize(("world_size", "batch_size"), [(2, 4), (4, 2), (8, 1)])
def test_every_number_of_ranks_trains_on_the_same_rows_at_each_step(world_size: int, batch_size: int) -> None:
    assert batches_of(world_size, batch_size, 30) == batches_of(1, 8, 30)


def test_more_ranks_with_less_accumulation_train_on_the_same_rows_at_each_step() -> None:
    alone = batches_of(1, 2, 40)
    windows = [sorted(itertools.chain(*alone[start : start + 4])) for start in range(0, 40, 4)]
    assert [sorted(step) for step in batches_of(4, 2, 10)] == windows


@pytest.mark.parametrize(("world_size", "batch_size"), [(1, 1), (1, 5), (2, 4), (4, 3)])
def test_a_pass_holds_every_row_once(world_size: int, batch_size: int) -> None:
    rows = 37
    steps = math.ceil(3 * rows / (world_size * batch_size))
    order = list(itertools.chain(*batches_of(world_size, batch_size, steps, rows)))
    passes = [order[start : start + rows] for start in (0, rows, 2 * rows)]
    assert [sorted(one) for one in passes] == [list(range(rows))] * 3
    assert passes[0] != passes[1] != passes[2] != passes[0]


def test_the_seed_alone_decides_the_order() -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    first = batches_of(1, 4, 20)
    np.random.seed(2)
    torch.manual_seed(2)
    assert batches_of(1, 4, 20) == first
    assert batches_of(1, 4, 20, seed=4) != first


def test_a_batch_larger_than_the_rows_wraps_into_the_next_pass() -> None:
    (batch,) = batches_of(1, 8, 1, rows=3)
    assert sorted(batch[:3]) == sorted(batch[3:6]) == [0, 1, 2]


def trained_rows(run: Run, data: PackedData) -> list[list[int]]:
    run.trainer.fit(run.module, datamodule=data)
    return run.recorder.rows


def test_order_and_losses_do_not_depend_on_the_workers(tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path) -> None:
    runs = []
    for num_workers in (0, 2):
        run, _ = build(tiny_rows, tiny_policy_dir, tmp_path / str(num_workers), steps=30)
        data = PackedData(str(tiny_rows), 2, num_workers=num_workers, seed=5)
        runs.append((trained_rows(run, data), run.losses))
    assert runs[0] == runs[1]
    expected = batches_of(1, 2, 30, len(PackedRows(tiny_rows / "train")), seed=5)
    assert runs[0][0] == expected


def slow_batch(rows: list[Row], document_attention: bool) -> dict[str, list[list[int]]]:
    """What a batch should hold, one position at a time."""
    batch: dict[str, list[list[int]]] = {}
    for row in rows:
        tokens = [int(token) for token in row.input_ids]
        document, source, place = [], [], []
        for index, (length, name) in enumerate(zip(row.document_lengths, row.document_sources, strict=True)):
            for position in range(length):
                document.append(index)
                source.append(int(name))
                place.append(position)
        values: dict[str, list[int]] = {"input_ids": tokens}
        values["position_ids"] = place if document_attention else list(range(len(tokens)))
        for name in ("targets", "segment_ids", "source_ids"):
            values[name] = []
        for now in range(len(tokens)):
            after = min(now + 1, len(tokens) - 1)
            hidden = after == now or (document_attention and document[after] != document[now])
            values["targets"].append(-100 if hidden else tokens[after])
            values["segment_ids"].append(document[after])
            values["source_ids"].append(source[after])
        for name, column in values.items():
            batch.setdefault(name, []).append(column)
    return batch


@pytest.mark.parametrize("document_attention", [True, False])
def test_batches_agree_with_a_loop(document_attention: bool, tiny_rows_split: Path) -> None:
    packed = PackedRows(tiny_rows_split / "train")
    rows = [packed[index] for index in range(len(packed))]
    assert len({tuple(row.document_lengths) for row in rows}) > 3
    assert len({int(source) for row in rows for source in row.document_sources}) == 2
    batch = Collate(document_attention)(rows)
    for name, expected in slow_batch(rows, document_attention).items():
        values = getattr(batch, name)
        assert values.dtype == torch.int64
        assert values.tolist() == expected, name
    assert batch.rows.tolist() == list(range(len(rows)))
    assert batch.scores == {}


def test_rows_read_at_once_are_those_read_one_by_one(tiny_rows_split: Path) -> None:
    columns: dict[str, Any] = {"nll": np.arange(400)[:, None].repeat(132, 1)}
    packed = PackedRows(tiny_rows_split / "train", columns, np.arange(1, 20))
    indices = [7, 0, 18, 7]
    together, alone = packed.__getitems__(indices), [packed[index] for index in indices]
    assert len({len(row.document_lengths) for row in together}) > 1
    for one, other in zip(together, alone, strict=True):
        assert one.number == other.number
        for name in ("input_ids", "document_lengths", "document_sources"):
            assert getattr(one, name).tolist() == getattr(other, name).tolist()
        assert one.scores["nll"].tolist() == other.scores["nll"].tolist()


def test_a_document_of_one_token_predicts_nothing_of_the_next() -> None:
    batch = Collate(True)([Row(4, np.array([5, 6, 7, 8, 9]), np.array([1, 3, 1]), np.array([1, 0, 1]), {})])
    assert batch.targets.tolist() == [[-100, 7, 8, -100, -100]]
    assert batch.position_ids.tolist() == [[0, 0, 1, 2, 0]]
    assert batch.source_ids.tolist() == [[0, 0, 0, 1, 1]]
    assert batch.segment_ids.tolist() == [[1, 1, 1, 2, 2]]


def test_a_selection_renumbers_rows_and_keeps_their_scores(tiny_rows: Path) -> None:
    columns: dict[str, Any] = {"nll": np.arange(200)[:, None].repeat(132, 1)}
    whole = PackedRows(tiny_rows / "train")
    chosen = PackedRows(tiny_rows / "train", columns, np.array([3, 8, 11]))
    assert len(chosen) == 3
    for index, row in enumerate((3, 8, 11)):
        item = chosen[index]
        assert item.number == row
        assert item.input_ids.tolist() == whole[row].input_ids.tolist()
        assert set(item.scores["nll"].tolist()) == {row}


@pytest.mark.parametrize("document_attention", [True, False])
@pytest.mark.parametrize("validation_batch_size", [1, 4])
def test_validation_losses_are_those_of_each_source(
    document_attention: bool, validation_batch_size: int, tiny_rows_split: Path, tiny_policy_dir: Path, tmp_path: Path
) -> None:
    run, _ = build(tiny_rows_split, tiny_policy_dir, tmp_path, trainer={"limit_val_batches": 1.0})
    data = PackedData(
        str(tiny_rows_split),
        2,
        num_workers=0,
        document_attention=document_attention,
        validation_batch_size=validation_batch_size,
    )
    run.trainer.validate(run.module, datamodule=data, verbose=False)
    found = {name: float(value) for name, value in run.trainer.callback_metrics.items()}
    model = AutoModelForCausalLM.from_pretrained(tiny_policy_dir)
    names = read_manifest(tiny_rows_split).sources["validation"]
    losses: dict[str, list[float]] = {name: [] for name in names}
    for row in datasets.load_from_disk(str(tiny_rows_split / "validation")):
        sources = [s for s, n in zip(row["document_sources"], row["document_lengths"], strict=True) for _ in range(n)]
        for place, value in enumerate(slow_nll(model, row, document_attention)):
            if value is not None:
                losses[names[sources[place + 1]]].append(value)
    assert all(losses.values())
    every = [value for values in losses.values() for value in values]
    expected = {f"val/nll/{name}": math.fsum(values) / len(values) for name, values in losses.items()}
    expected["val/nll"] = math.fsum(every) / len(every)
    assert found == pytest.approx(expected, abs=1e-5)


def test_ranks_share_the_validation_rows(
    tiny_rows_split: Path, tiny_policy_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, data = build(tiny_rows_split, tiny_policy_dir, tmp_path)
    data.trainer = run.trainer
    seen: list[list[int]] = []
    for rank in range(3):
        monkeypatch.setattr(type(run.trainer), "world_size", 3)
        monkeypatch.setattr(type(run.trainer), "global_rank", rank)
        loader = data.val_dataloader()
        assert not isinstance(loader, list)
        seen.append([row for batch in loader for row in batch.rows.tolist()])
    total = len(PackedRows(tiny_rows_split / "validation"))
    assert sorted(itertools.chain(*seen)) == list(range(total))
    assert max(map(len, seen)) - min(map(len, seen)) <= 1


def settings(tokenizer: Path, **changes: Any) -> PrepareSettings:
    sources: dict[str, Any] = {"web": LabDocuments("web", 120), "correct": LabDocuments("correct", 120)}
    options = {"sequence_length": 132, "validation_share": 0.1, **changes}
    return PrepareSettings(str(tokenizer), **{"sources": sources, **options})


def test_rows_of_the_same_settings_are_taken_as_they_are(tiny_rows: Path, tiny_tokenizer_dir: Path) -> None:
    data = PackedData(str(tiny_rows), 2, prepare=settings(tiny_tokenizer_dir, num_workers=3))
    before = (tiny_rows / "manifest.json").stat().st_mtime_ns
    data.prepare_data()
    assert (tiny_rows / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"sequence_length": 66}, "sequence_length: 132 on disk, 66"),
        ({"seed": 1}, "seed: 0 on disk, 1"),
        ({"validation_share": 0.2}, "validation_share: 0.1 on disk, 0.2"),
        ({"num_tokens": 1320}, "num_tokens: None on disk, 1320"),
        ({"mix": {"web": 0.5, "correct": 0.5}}, "mix: None on disk"),
        ({"sources": {"web": LabDocuments("web", 120), "correct": LabDocuments("correct", 121)}}, "sources: .*121"),
        ({"tokenizer_revision": "v2"}, "tokenizer_revision: None on disk, 'v2'"),
    ],
)
def test_rows_of_other_settings_are_refused_naming_the_field(
    changes: dict[str, Any], field: str, tiny_rows: Path, tiny_tokenizer_dir: Path
) -> None:
    with pytest.raises(ConfigError, match=f"prepared with other settings.*{field}") as raised:
        PackedData(str(tiny_rows), 2, prepare=settings(tiny_tokenizer_dir, **changes))
    assert str(raised.value).count("on disk") == 1


def test_rows_are_made_where_they_are_missing(tiny_rows: Path, tiny_tokenizer_dir: Path, tmp_path: Path) -> None:
    PackedData(str(tmp_path / "rows"), 2, prepare=settings(tiny_tokenizer_dir)).prepare_data()
    assert read_manifest(tmp_path / "rows") == read_manifest(tiny_rows)


def test_rows_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.rows: .*absent does not exist.*prepare"):
        PackedData(str(tmp_path / "absent"), 2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty holds no (prepared )?rows"):
        _ = PackedData(str(tmp_path / "empty"), 2).manifest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "data.batch_size: got 0; give at least 1"),
        ({"batch_size": -1}, "data.batch_size: got -1"),
        ({"num_workers": -1}, "data.num_workers: got -1; give at least 0"),
        ({"validation_batch_size": -2}, "data.validation_batch_size: got -2"),
        ({"validation_batch_size": 0}, "data.validation_batch_size: got 0"),
    ],
)
def test_sizes_that_cannot_work_are_refused(options: dict[str, int], message: str, tiny_rows: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        PackedData(str(tiny_rows), **{"batch_size": 2, **options})  # type: ignore[arg-type]


def test_rows_without_validation_train_without_it(
    tiny_tokenizer_dir: Path, tiny_policy_dir: Path, tmp_path: Path
) -> None:
    rows = make_rows(tmp_path / "rows", tiny_tokenizer_dir, 132, validation_share=0.0)
    run, data = build(rows, tiny_policy_dir, tmp_path / "run", steps=2, trainer={"limit_val_batches": 1.0})
    assert len(trained_rows(run, data)) == 2
    with pytest.raises(ConfigError, match="no split 'validation'"):
        data.load_rows("validation", [])


def test_a_split_that_was_deleted_is_refused(tiny_rows: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_rows, tmp_path / "rows")
    shutil.rmtree(tmp_path / "rows" / "train")
    with pytest.raises(ConfigError, match="train does not exist"):
        PackedData(str(tmp_path / "rows"), 2).load_rows("train", [])
