"""Which models are refused before anything is loaded, and which when they are."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from remit_lit.errors import ConfigError
from remit_lit.models.locations import resolve
from remit_lit.models.spec import ModelSpec
from tests.helpers import llama_config


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ModelSpec(), "policy: give either path .* or config"),
        (ModelSpec("owner/name", {"model_type": "llama"}), "policy: give either path .* or config"),
        (ModelSpec(config={"hidden_size": 8}), "policy.config: got no model_type"),
        (ModelSpec(config={"model_type": "llama"}), "policy.tokenizer: a fresh model has none"),
        (ModelSpec("/no/such/directory"), "policy.path: '/no/such/directory' is neither a directory nor a hub id"),
        (ModelSpec("./no-such-directory"), "policy.path: './no-such-directory' is neither a directory nor a hub id"),
        (ModelSpec("../models/one"), "policy.path: .* is neither a directory nor a hub id"),
        (ModelSpec("a/b/c"), "policy.path: 'a/b/c' is neither a directory nor a hub id"),
        (ModelSpec(""), "policy.path"),
        (ModelSpec("two words"), "policy.path: 'two words' is neither a directory nor a hub id"),
        (ModelSpec("lab/bse"), r"'lab/bse'; did you mean lab/base\? the embedded models are lab/base, .*lab/reference"),
    ],
)
def test_paths_that_cannot_be_models_are_refused(spec: ModelSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spec.check("policy")


@pytest.mark.usefixtures("no_weights")
def test_a_directory_without_a_model_is_refused(tmp_path: Path, tiny_policy_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy\.path: .* is not a model directory \(it has no config\.json\)"):
        ModelSpec(str(tmp_path)).check("policy")
    with pytest.raises(ConfigError, match=r"policy\.path: .* is neither a directory nor a hub id"):
        ModelSpec(str(tiny_policy_dir / "config.json")).check("policy")


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("path", ["allenai/OLMo-2-0425-1B", "gpt2", "owner/name.with-dots_1", "lab/base"])
def test_hub_ids_and_embedded_names_are_taken(path: str) -> None:
    ModelSpec(path).check("policy")


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("text", ["{", "[]", '{"model_type": "no-such-model"}', "{}"])
def test_a_damaged_config_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"policy: .* is not a model that transformers can load"):
        ModelSpec(str(tmp_path)).load_config("policy")


@pytest.mark.usefixtures("no_weights")
def test_an_unknown_model_type_of_a_fresh_model_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"policy: .*no-such-model"):
        ModelSpec(config={"model_type": "no-such-model"}, tokenizer="lab/base").load_config("policy")


@pytest.mark.fault("damaged weights of a model", "refused by name")
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty"])
def test_damaged_weights_are_refused(damage: str, tmp_path: Path, tiny_policy_dir: Path) -> None:
    shutil.copytree(tiny_policy_dir, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    whole = weights.read_bytes()
    weights.unlink()
    if damage != "missing":
        weights.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"")
    with pytest.raises(ConfigError, match=r"policy: .*model cannot be loaded"):
        ModelSpec(str(tmp_path / "model")).load("policy")


@pytest.mark.parametrize("change", ["lacks a tensor", "another shape"])
def test_weights_that_are_not_all_there_are_refused(change: str, tmp_path: Path, tiny_policy_dir: Path) -> None:
    shutil.copytree(tiny_policy_dir, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    if change == "lacks a tensor":
        del weights[name]
    else:
        weights[name] = weights[name][:-1].contiguous()
    save_file(weights, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"policy: .*up_proj"):
        ModelSpec(str(tmp_path / "model")).load("policy")


def test_a_fresh_model_is_built_from_its_config(tiny_tokenizer_dir: Path) -> None:
    config = json.loads(llama_config().to_json_string())
    model = ModelSpec(config=config, tokenizer=str(tiny_tokenizer_dir)).load("policy")
    assert model.config.hidden_size == 32
    assert (
        sum(p.numel() for p in model.parameters()) == 32 * 32 + 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 64 + 64) + 32
    )


def test_the_embedded_models_are_where_their_names_say() -> None:
    for name in ("lab/base", "lab/reference"):
        assert (Path(resolve(name)) / "model.safetensors").is_file()
    assert resolve("owner/name") == "owner/name"
