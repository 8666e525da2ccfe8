"""Score columns against whole logits; interrupted, damaged and foreign columns."""

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import remit_lit.data.scoring as scoring_module
from remit_lit.data.columns import ScoreColumn, column_directory, shard_path, write_shard
from remit_lit.data.datamodule import PackedData
from remit_lit.data.prepare import prepare
from remit_lit.data.scoring import score
from remit_lit.data.settings import PrepareSettings
from remit_lit.errors import ConfigError, DataError, NonFiniteError
from remit_lit.lab.source import LabDocuments
from remit_lit.models import ModelSpec
from remit_lit.reference import CachedReference, LiveReference
from remit_lit.weighting import ReMiT, Rho1
from tests.data.conftest import slow_nll
from tests.helpers import fit, make_rows, save_model


@pytest.fixture
def rows(tiny_rows: Path, tmp_path: Path) -> Path:
    """Rows of one's own, to add columns to."""
    shutil.copytree(tiny_rows, tmp_path / "rows", ignore=shutil.ignore_patterns("columns"))
    return tmp_path / "rows"


def stored(rows: Path, name: str, split: str = "train") -> np.ndarray:
    column = ScoreColumn(column_directory(rows, split, name))
    return np.stack([column[row] for row in range(column.facts.num_rows)])


def shards_of(rows: Path, name: str) -> dict[str, bytes]:
    directory = column_directory(rows, "train", name)
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("document_attention", [True, False])
def test_scores_are_the_nlls_of_whole_logits(
    document_attention: bool, split: Any, tiny_rows_split: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_rows_split, tmp_path / "rows")
    spec = ModelSpec(str(tiny_reference_dir))
    score(str(tmp_path / "rows"), spec, "nll", split, "float32", document_attention, batch_tokens=150)
    found = stored(tmp_path / "rows", "nll", split)
    model = AutoModelForCausalLM.from_pretrained(tiny_reference_dir)
    packed = datasets.load_from_disk(str(tmp_path / "rows" / split))
    assert found.shape == (len(packed), 50)
    expected = [[v or 0.0 for v in slow_nll(model, row, document_attention)] for row in packed]
    assert np.abs(found - np.array(expected)).max() < 1e-5


def test_float16_is_float32_rounded_once(rows: Path, tiny_reference_dir: Path) -> None:
    spec = ModelSpec(str(tiny_reference_dir))
    score(str(rows), spec, "exact", dtype="float32")
    score(str(rows), spec, "half")
    half = stored(rows, "half")
    assert half.dtype == np.float16
    assert (half == stored(rows, "exact").astype(np.float16)).all()


def test_scores_hardly_depend_on_the_batch(rows: Path, tiny_reference_dir: Path) -> None:
    spec = ModelSpec(str(tiny_reference_dir))
    for batch_size in (1, 7):
        score(str(rows), spec, f"by{batch_size}", batch_tokens=50 * batch_size, dtype="float32")
    assert np.abs(stored(rows, "by1") - stored(rows, "by7")).max() < 1e-5


def test_an_interrupted_column_is_refused_and_finished_to_the_same_bytes(
    rows: Path, tiny_reference_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    spec = ModelSpec(str(tiny_reference_dir))
    score(str(rows), spec, "whole", batch_tokens=150, rows_per_shard=8)
    write, written = write_shard, []

    def interrupted(directory: Path, index: int, values: np.ndarray) -> None:
        if index == 3:
            raise KeyboardInterrupt
        write(directory, index, values)

    monkeypatch.setattr(scoring_module, "write_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score(str(rows), spec, "cut", batch_tokens=150, rows_per_shard=8)
    with pytest.raises(ConfigError, match=r"'cut': not complete.*shard-00003"):
        ScoreColumn(column_directory(rows, "train", "cut"))

    def counted(directory: Path, index: int, values: np.ndarray) -> None:
        written.append(index)
        write(directory, index, values)

    monkeypatch.setattr(scoring_module, "write_shard", counted)
    score(str(rows), spec, "cut", batch_tokens=150, rows_per_shard=8)
    assert shards_of(rows, "cut") == shards_of(rows, "whole")
    assert written == list(range(3, len(shards_of(rows, "whole")) - 1))


@pytest.mark.parametrize("missing", [[0], [1, 4], [6]])
def test_shards_that_were_deleted_are_scored_again(
    missing: list[int], rows: Path, tiny_reference_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    spec = ModelSpec(str(tiny_reference_dir))
    directory = score(str(rows), spec, "nll", rows_per_shard=8)
    before = shards_of(rows, "nll")
    for index in missing:
        shard_path(directory, index).unlink()
    score(str(rows), spec, "nll", rows_per_shard=8)
    assert shards_of(rows, "nll") == before


def test_a_run_that_was_killed_before_its_first_shard_goes_on(rows: Path, tiny_reference_dir: Path) -> None:
    column_directory(rows, "train", "nll").mkdir(parents=True)
    score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll")
    assert np.isfinite(stored(rows, "nll")).all()


def test_another_model_or_other_settings_into_the_same_column_are_refused(
    rows: Path, tiny_reference_dir: Path, tiny_policy_dir: Path
) -> None:
    spec = ModelSpec(str(tiny_reference_dir))
    score(str(rows), spec, "nll")
    before = shards_of(rows, "nll")
    changes: list[tuple[ModelSpec, dict[str, Any]]] = [
        (ModelSpec(str(tiny_policy_dir)), {}),
        (ModelSpec(str(tiny_reference_dir), dtype="bfloat16"), {}),
        (spec, {"dtype": "float32"}),
        (spec, {"document_attention": False}),
    ]
    for changed, options in changes:
        with pytest.raises(ConfigError, match=r"column: .*nll holds other scores.*another column"):
            score(str(rows), changed, "nll", **options)
    assert shards_of(rows, "nll") == before


def test_one_changed_weight_is_another_model(rows: Path, tiny_reference_dir: Path, tmp_path: Path) -> None:
    score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll")
    shutil.copytree(tiny_reference_dir, tmp_path / "changed")
    weights = load_file(tmp_path / "changed" / "model.safetensors")
    weights["model.norm.weight"][3] += 1e-3
    save_file(weights, tmp_path / "changed" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match="holds other scores"):
        score(str(rows), ModelSpec(str(tmp_path / "changed")), "nll")


@pytest.mark.parametrize(
    ("options", "message"), [({"batch_tokens": 0}, "batch_tokens: got 0"), ({"split": "test"}, "split")]
)
def test_arguments_that_cannot_work_are_refused(
    options: dict[str, Any], message: str, rows: Path, tiny_reference_dir: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll", **options)


def test_a_model_that_gives_nan_is_refused_naming_the_rows(rows: Path, tmp_path: Path) -> None:
    broken = save_model(tmp_path / "broken", 3, tie_word_embeddings=False)
    weights = load_file(broken / "model.safetensors")
    weights["model.embed_tokens.weight"][20] = torch.nan
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    packed = datasets.load_from_disk(str(rows / "train"))
    expected = [row for row in range(8) if 20 in packed[row]["input_ids"]]
    assert 0 < len(expected) < 8
    with pytest.raises(NonFiniteError, match=r"model: NaN") as raised:
        score(str(rows), ModelSpec(str(broken)), "nll")
    assert str(expected) in str(raised.value)


def test_weights_that_are_all_nan_are_called_so(rows: Path, tmp_path: Path) -> None:
    broken = save_model(tmp_path / "broken", 3)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][:] = torch.nan
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises((ConfigError, DataError, NonFiniteError), match="NaN"):
        score(str(rows), ModelSpec(str(broken)), "nll")


def test_a_model_of_another_tokenizer_is_refused_before_it_is_loaded(
    rows: Path, tiny_reference_dir: Path, byte_tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuse)
    spec = ModelSpec(str(tiny_reference_dir), tokenizer=str(byte_tokenizer_dir))
    with pytest.raises(ConfigError, match=r"reference.model: its tokenizer .* is not that of the rows"):
        score(str(rows), spec, "nll")


def test_a_model_with_too_short_a_window_is_refused(rows: Path, tmp_path: Path) -> None:
    short = save_model(tmp_path / "short", 3, max_position_embeddings=64)
    with pytest.raises(ConfigError, match=r"at most 64 tokens.*sequence_length of 132"):
        score(str(rows), ModelSpec(str(short)), "nll")


@pytest.mark.parametrize("weighting", [ReMiT(epsilon=0.5), Rho1(keep=0.5)])
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


def train_on(rows: Path, policy: Path, run_dir: Path, **options: Any) -> None:
    given = {"weighting": ReMiT(), "reference": CachedReference("nll_rl"), "steps": 100, **options}
    fit(rows, policy, run_dir, **given)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_nan_in_a_column_stops_the_run_and_names_the_row(
    broken: float, rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    directory = score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll_rl")
    values = np.load(shard_path(directory, 0))
    values[13, 5] = broken
    np.save(shard_path(directory, 0), values)
    with pytest.raises(NonFiniteError, match=r"'nll_rl'.*row\(s\) \[13\]"):
        train_on(rows, tiny_policy_dir, tmp_path / "run")


def test_nan_where_nothing_is_predicted_does_not_matter(
    rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    directory = score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll_rl")
    values = np.load(shard_path(directory, 0))
    values[:, -1] = np.nan
    np.save(shard_path(directory, 0), values)
    run = fit(rows, tiny_policy_dir, tmp_path / "run", weighting=ReMiT(), reference=CachedReference("nll_rl"), steps=30)
    assert np.isfinite(run.losses).all()


@pytest.mark.parametrize("kept", [0, 40, 2000, -1])
def test_a_truncated_shard_is_refused(
    kept: int, rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    path = shard_path(score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll_rl"), 0)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"'nll_rl'.*shard-00000\.npy.*score"):
        train_on(rows, tiny_policy_dir, tmp_path / "run")


@pytest.mark.parametrize("change", ["rows", "time", "dtype"])
def test_a_shard_of_another_shape_is_refused(change: str, rows: Path, tiny_reference_dir: Path) -> None:
    directory = score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll_rl")
    path = shard_path(directory, 0)
    values = np.load(path)
    changed = {"rows": values[:-1], "time": values[:, :-1], "dtype": values.astype(np.float64)}[change]
    np.save(path, changed)
    with pytest.raises(DataError, match=r"shard-00000\.npy holds"):
        PackedData(str(rows), 2).load_rows("train", ["nll_rl"])


def test_a_damaged_shard_can_be_scored_again_as_the_message_says(rows: Path, tiny_reference_dir: Path) -> None:
    spec = ModelSpec(str(tiny_reference_dir))
    directory = score(str(rows), spec, "nll_rl")
    before = shards_of(rows, "nll_rl")
    path = shard_path(directory, 0)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="run `score` again"):
        ScoreColumn(directory)
    score(str(rows), spec, "nll_rl")
    assert shards_of(rows, "nll_rl") == before


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


def test_scoring_a_split_that_is_not_there_is_refused(
    tiny_tokenizer_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    sources: dict[str, Any] = {"web": LabDocuments("web", 20)}
    settings = PrepareSettings(str(tiny_tokenizer_dir), sources, 132, validation_share=0.0)
    rows = prepare(tmp_path / "rows", settings)
    with pytest.raises(ConfigError, match="validation"):
        score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll", "validation")
