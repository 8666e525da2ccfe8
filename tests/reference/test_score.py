"""`score` against whole logits, and what it refuses."""

import re
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from remit_lit.data.columns import shard_path, write_shard
from remit_lit.data.lab_documents import LabDocuments
from remit_lit.data.manifest import read_manifest
from remit_lit.data.prepare import prepare
from remit_lit.data.rows import open_rows
from remit_lit.data.settings import PrepareSettings
from remit_lit.errors import ConfigError, DataError, NonFiniteError
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.score import score
from tests.columns import shards_of, slow_nll, stored
from tests.helpers import TIME, save_model


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


def test_a_column_may_lie_beside_links_to_the_rows(rows: Path, tiny_rows_split: Path, tiny_reference_dir: Path) -> None:
    spec, linked = ModelSpec(str(tiny_reference_dir)), rows.parent / "scored"
    for _ in range(2):  # again, it goes on
        column = score(str(rows), spec, "nll", output=str(linked))
    assert column == linked / "columns" / "train" / "nll" and not (rows / "columns").exists()
    score(str(rows), spec, "nll")
    assert (stored(linked, "nll") == stored(rows, "nll")).all()
    assert read_manifest(str(linked)) == read_manifest(str(rows))
    opened = open_rows(str(linked), "train", ["nll"], True)
    assert len(opened) == len(stored(rows, "nll"))
    with pytest.raises(ConfigError, match=r"output: .*scored holds other rows"):
        score(str(tiny_rows_split), spec, "nll", output=str(linked))


def test_scores_hardly_depend_on_the_batch(rows: Path, tiny_reference_dir: Path) -> None:
    spec = ModelSpec(str(tiny_reference_dir))
    for batch_size in (1, 7):
        score(str(rows), spec, f"by{batch_size}", batch_tokens=50 * batch_size, dtype="float32")
    assert np.abs(stored(rows, "by1") - stored(rows, "by7")).max() < 1e-5


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
    ("options", "message"),
    [
        ({"batch_tokens": 0}, "batch_tokens: got 0"),
        ({"rows_per_shard": 0}, "rows_per_shard: got 0"),
        ({"verify": -1}, "verify: got -1"),
        ({"devices": 0}, "devices: got 0"),
        ({"split": "test"}, "split"),
    ],
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
    expected = [row for row in range(20) if 20 in packed[row]["input_ids"]]
    assert 8 < len(expected) < 20
    message = rf"model: NaN or infinite NLL in {len(expected)} row\(s\), the first {re.escape(str(expected[:8]))}"
    with pytest.raises(NonFiniteError, match=message):
        score(str(rows), ModelSpec(str(broken)), "nll", batch_tokens=20 * TIME)


def test_weights_that_are_all_nan_are_called_so(rows: Path, tmp_path: Path) -> None:
    broken = save_model(tmp_path / "broken", 3)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][:] = torch.nan
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises((ConfigError, DataError, NonFiniteError), match="NaN"):
        score(str(rows), ModelSpec(str(broken)), "nll")


@pytest.mark.usefixtures("no_weights")
def test_a_model_of_another_tokenizer_is_refused(
    rows: Path, tiny_reference_dir: Path, byte_tokenizer_dir: Path
) -> None:
    spec = ModelSpec(str(tiny_reference_dir), tokenizer=str(byte_tokenizer_dir))
    with pytest.raises(ConfigError, match=r"^model: its tokenizer .* is not that of the rows"):
        score(str(rows), spec, "nll")


def test_a_model_with_too_short_a_window_is_refused(rows: Path, tmp_path: Path) -> None:
    short = save_model(tmp_path / "short", 3, max_position_embeddings=64)
    with pytest.raises(ConfigError, match=r"at most 64 tokens.*sequence_length of 132"):
        score(str(rows), ModelSpec(str(short)), "nll")


def test_a_model_with_too_small_a_vocabulary_is_refused(rows: Path, tmp_path: Path) -> None:
    small = save_model(tmp_path / "small", 3, vocab_size=30)
    with pytest.raises(ConfigError, match=r"vocabulary of 30 tokens \(vocab_size\), but the tokenizer has 32"):
        score(str(rows), ModelSpec(str(small)), "nll")


def test_verifying_reports_the_largest_difference_and_its_row(
    rows: Path, tiny_reference_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = ModelSpec(str(tiny_reference_dir))
    directory = score(str(rows), spec, "nll", dtype="float32", verify=5)
    assert "verified 5 rows: they differ from a second scoring by at most" in capsys.readouterr().out
    values = np.load(shard_path(directory, 0))
    values[17, 3] += 0.25
    write_shard(directory, 0, values)
    score(str(rows), spec, "nll", dtype="float32", verify=10**6)
    found = re.search(rf"verified {len(values)} rows: .* at most (\S+) nats \(row 17\)", capsys.readouterr().out)
    assert found
    assert float(found[1]) == pytest.approx(0.25, rel=1e-2)


def test_scoring_a_split_that_is_not_there_is_refused(
    tiny_tokenizer_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    sources: dict[str, Any] = {"web": LabDocuments("web", 20)}
    settings = PrepareSettings(str(tiny_tokenizer_dir), sources, 132, validation_share=0.0)
    rows = prepare(tmp_path / "rows", settings)
    with pytest.raises(ConfigError, match="validation"):
        score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll", "validation")
