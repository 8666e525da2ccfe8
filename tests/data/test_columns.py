"""Score columns in training: as a live reference, damaged, and of something else."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import remit_lit.data.columns as module
from remit_lit.data.columns import ScoreColumn, shard_path, write_shard
from remit_lit.errors import ConfigError, DataError, NonFiniteError
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import CachedReference, LiveReference
from remit_lit.reference.score import score
from remit_lit.training.datamodule import PackedData
from remit_lit.weighting import ReMiT, Rho1
from tests.columns import shards_of
from tests.helpers import fit, make_rows


@pytest.mark.parametrize("weighting", [ReMiT(epsilon=0.5), Rho1(keep=0.5)], ids=["remit", "rho1"])
def test_a_cached_reference_trains_as_a_live_one(
    weighting: Any, rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    spec = ModelSpec(str(tiny_reference_dir))
    score(str(rows), spec, "nll_rl", dtype="float32")
    curves = []
    for reference in (CachedReference("nll_rl"), LiveReference(spec)):
        options: dict[str, Any] = {"steps": 8, "weighting": weighting, "reference": reference}
        run = fit(rows, tiny_policy_dir, tmp_path / type(reference).__name__, **options)
        curves.append(run.losses)
    assert curves[0] == pytest.approx(curves[1], abs=1e-6)
    assert abs(curves[0][0] - curves[0][-1]) > 1e-3


def test_a_float16_column_hardly_moves_a_weight(
    rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    spec = ModelSpec(str(tiny_reference_dir))
    score(str(rows), spec, "half")
    runs = [
        fit(
            rows,
            tiny_policy_dir,
            tmp_path / type(reference).__name__,
            weighting=ReMiT(clip=False),
            reference=reference,
            batch_size=40,
            steps=1,
        )
        for reference in (CachedReference("half"), LiveReference(spec))
    ]
    cached, live = (run.recorder.weights[0] for run in runs)
    largest = (cached - live).abs().max().item()
    print(f"largest difference of a weight: {largest:.2e}")
    assert 0 < largest < 2e-3


def train_on(rows: Path, policy: Path, run_dir: Path, **options: Any) -> None:
    given = {"weighting": ReMiT(), "reference": CachedReference("nll_rl"), "steps": 100, **options}
    fit(rows, policy, run_dir, **given)


@pytest.mark.fault("NaN in a column that is trained on", "the run stops and names the row")
@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_nan_in_a_column_stops_the_run_and_names_the_row(
    broken: float, rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    directory = score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll_rl")
    values = np.load(shard_path(directory, 0))
    values[13, 5] = broken
    write_shard(directory, 0, values)
    with pytest.raises(NonFiniteError, match=r"'nll_rl'.*row\(s\) \[13\]"):
        train_on(rows, tiny_policy_dir, tmp_path / "run")


def test_nan_where_nothing_is_predicted_does_not_matter(
    rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    directory = score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll_rl")
    values = np.load(shard_path(directory, 0))
    values[:, -1] = np.nan
    write_shard(directory, 0, values)
    run = fit(rows, tiny_policy_dir, tmp_path / "run", weighting=ReMiT(), reference=CachedReference("nll_rl"), steps=30)
    assert np.isfinite(run.losses).all()


@pytest.mark.fault("a truncated shard of a column", "refused by name")
@pytest.mark.parametrize("kept", [0, 40, 2000, -1, -4])
def test_a_truncated_shard_is_refused(
    kept: int, rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    path = shard_path(score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll_rl"), 0)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"'nll_rl'.*shard-00000\.npy.*score"):
        train_on(rows, tiny_policy_dir, tmp_path / "run")


@pytest.mark.fault("a flipped bit in a column", "refused by name")
@pytest.mark.parametrize("place", [0.0, 0.01, 0.5, 1.0])
def test_one_flipped_bit_is_refused(
    place: float, rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    path = shard_path(score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll_rl", rows_per_shard=16), 1)
    content = bytearray(path.read_bytes())
    content[round(place * (len(content) - 1))] ^= 4
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"'nll_rl'.*shard-00001\.npy is damaged.*score"):
        train_on(rows, tiny_policy_dir, tmp_path / "run")


@pytest.mark.parametrize("change", ["rows", "time", "dtype"])
def test_a_shard_of_another_shape_is_refused(change: str, rows: Path, tiny_reference_dir: Path) -> None:
    directory = score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll_rl")
    values = np.load(shard_path(directory, 0))
    changed = {"rows": values[:-1], "time": values[:, :-1], "dtype": values.astype(np.float64)}[change]
    write_shard(directory, 0, changed)
    with pytest.raises(DataError, match=rf"shard-00000\.npy is damaged \(it holds {re.escape(str(changed.shape))}"):
        PackedData(str(rows), 2).load_rows("train", ["nll_rl"])[0]


def test_a_damaged_shard_can_be_scored_again_as_the_message_says(rows: Path, tiny_reference_dir: Path) -> None:
    spec = ModelSpec(str(tiny_reference_dir))
    directory = score(str(rows), spec, "nll_rl")
    before = shards_of(rows, "nll_rl")
    path = shard_path(directory, 0)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="run `score` again"):
        ScoreColumn(directory)[0]
    score(str(rows), spec, "nll_rl")
    assert shards_of(rows, "nll_rl") == before


@pytest.mark.fault("damaged facts of a column", "refused by name")
def test_damaged_facts_are_refused(rows: Path, tiny_reference_dir: Path) -> None:
    directory = score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll_rl")
    whole = (directory / "column.json").read_text()
    for damaged in (whole[:50], "", "{}", '{"rows": 1}'):
        (directory / "column.json").write_text(damaged)
        with pytest.raises(DataError, match=r"column\.json is damaged"):
            ScoreColumn(directory)


def test_a_column_that_is_not_there_is_refused_naming_those_that_are(
    rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"no score column 'nll_rl' \(these rows have none\).*score"):
        train_on(rows, tiny_policy_dir, tmp_path / "run")
    score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll_other")
    with pytest.raises(ConfigError, match=r"no score column 'nll_rl' \(these rows have \['nll_other'\]\)"):
        train_on(rows, tiny_policy_dir, tmp_path / "run")


@pytest.mark.fault("a column of other rows", "refused, both are named")
def test_a_column_of_other_rows_is_refused_naming_both(
    rows: Path, tiny_tokenizer_dir: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    other = make_rows(tmp_path / "other", tiny_tokenizer_dir, 132, seed=1)
    score(str(other), ModelSpec(str(tiny_reference_dir)), "nll_rl")
    shutil.copytree(other / "columns", rows / "columns")
    ours, theirs = (json.loads((r / "manifest.json").read_text())["fingerprints"]["train"] for r in (rows, other))
    with pytest.raises(ConfigError, match=f"'nll_rl' .*rows: {theirs} in the column, {ours} in this run"):
        train_on(rows, tiny_policy_dir, tmp_path / "run")


def test_a_column_of_another_attention_is_refused_naming_both(
    rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll_rl")
    with pytest.raises(ConfigError, match="document_attention: True in the column, False in this run"):
        train_on(rows, tiny_policy_dir, tmp_path / "run", document_attention=False)


def test_a_column_of_another_tokenizer_is_refused_naming_both(
    rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    directory = score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll_rl")
    facts = json.loads((directory / "column.json").read_text())
    (directory / "column.json").write_text(json.dumps(facts | {"tokenizer": "f00d"}))
    with pytest.raises(ConfigError, match=f"tokenizer: f00d in the column, {facts['tokenizer']} in this run"):
        train_on(rows, tiny_policy_dir, tmp_path / "run")


def test_a_column_of_the_training_rows_is_not_one_of_the_validation_rows(rows: Path, tiny_reference_dir: Path) -> None:
    score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll")
    with pytest.raises(ConfigError, match="no score column 'nll'"):
        PackedData(str(rows), 2).load_rows("validation", ["nll"])


def test_a_shard_that_is_missing_is_named_before_any_is_read(rows: Path, tiny_reference_dir: Path) -> None:
    directory = score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll_rl", rows_per_shard=16)
    shard_path(directory, 1).unlink()
    with pytest.raises(ConfigError, match=r"'nll_rl': not complete, shard-00001\.npy is missing"):
        ScoreColumn(directory)


def test_few_shards_are_open_at_a_time_and_each_is_verified_once(
    rows: Path, tiny_reference_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll_rl", rows_per_shard=4)
    verified: list[int] = []
    monkeypatch.setattr(module, "_MOST_OPEN", 2)
    monkeypatch.setattr(module, "verify_shard", lambda directory, index: verified.append(index))
    column = ScoreColumn(directory)
    assert verified == []
    for row in (0, 1, 9, 5, 0, 9, 2):
        assert (column[row] == np.load(shard_path(directory, row // 4))[row % 4]).all()
        assert Path("/proc/self/maps").read_text().count(str(directory)) <= 3
    assert verified == [0, 2, 1]
