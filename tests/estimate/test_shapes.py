"""Models of three families by their shapes alone, as `estimate` reads them without a network."""

from typing import Any

import pytest
import torch
import yaml  # type: ignore[import-untyped]

from remit_lit.cli.dispatch import main
from remit_lit.models.spec import ModelSpec
from tests.processes import ROOT


def shape_of(family: str) -> dict[str, Any]:
    shape: dict[str, Any] = yaml.safe_load((ROOT / f"experiments/shapes/{family}.yaml").read_text())
    config: dict[str, Any] = shape["model"]["policy"]["config"]
    assert shape["model"]["reference"]["init_args"]["model"]["config"] == config
    return config


def olmo2(c: dict[str, Any]) -> int:
    """Norms of queries and keys over all heads, two more norms a layer, one at the end; untied."""
    h, layer = c["hidden_size"], 4 * c["hidden_size"] ** 2 + 3 * c["hidden_size"] * c["intermediate_size"]
    return 2 * c["vocab_size"] * h + c["num_hidden_layers"] * (layer + 4 * h) + h


def smollm3(c: dict[str, Any]) -> int:
    """Grouped keys and values; tied."""
    h = c["hidden_size"]
    attention = 2 * h * h * (1 + c["num_key_value_heads"] / c["num_attention_heads"])
    layer = attention + 3 * h * c["intermediate_size"] + 2 * h
    return int(c["vocab_size"] * h + c["num_hidden_layers"] * layer + h)


def youtu(c: dict[str, Any]) -> int:
    """Latent attention: queries, and keys with values, pass through a normed latent each; tied."""
    h, heads, q, kv = c["hidden_size"], c["num_attention_heads"], c["q_lora_rank"], c["kv_lora_rank"]
    plain, rotated, value = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
    queries = h * q + q + q * heads * (plain + rotated)
    keys = h * (kv + rotated) + kv + kv * heads * (plain + value)
    layer = queries + keys + heads * value * h + 3 * h * c["intermediate_size"] + 2 * h
    return c["vocab_size"] * h + c["num_hidden_layers"] * layer + h


@pytest.mark.parametrize(
    ("family", "formula", "billions"),
    [("olmo2_1b", olmo2, "1.48"), ("smollm3_3b", smollm3, "3.08"), ("youtu_llm_2b", youtu, "1.96")],
)
def test_a_shape_has_the_parameters_of_its_family(family: str, formula: Any, billions: str) -> None:
    shape = shape_of(family)
    with torch.device("meta"):
        model = ModelSpec(config=shape, tokenizer="any/tokenizer").build_empty()
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == formula(shape) and f"{count / 1e9:.2f}" == billions


@pytest.mark.parametrize("family", ["olmo2_1b", "smollm3_3b"])
def test_a_shape_takes_the_place_of_its_experiments_models(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", family, "--config", f"shapes/{family}", "--print_config"])
    model = yaml.safe_load(capsys.readouterr().out)["model"]
    assert not stop.value.code and model["weighting"]["class_path"].endswith("ReMiT")
    policy, reference = model["policy"], model["reference"]["init_args"]["model"]
    assert policy["path"] is None and policy["revision"] is None and reference["path"] is None
    assert policy["config"] == reference["config"] == shape_of(family)
