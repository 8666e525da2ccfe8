"""The loss over architectures: their heads, their logits, and documents packed into a row."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from remit_lit.errors import ConfigError
from remit_lit.models.loss_head import hidden_states, loss_head
from remit_lit.models.spec import ModelSpec
from remit_lit.training.objective import weighted_loss
from remit_lit.weighting import NextTokenPrediction
from tests.helpers import TIME, VOCAB, get_batch
from tests.training.plain import nll_of

NEUTRAL = torch.tensor([0, 1])
TINY = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": None}
LLAMA_LIKE = TINY | {"intermediate_size": 48, "num_key_value_heads": 2, "initializer_range": 0.2}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": LLAMA_LIKE | {"tie_word_embeddings": False},
    "llama-tied": LLAMA_LIKE | {"model_type": "llama", "tie_word_embeddings": True},
    "olmo2": LLAMA_LIKE,
    "smollm3": LLAMA_LIKE | {"no_rope_layer_interval": 2},
    "qwen3": LLAMA_LIKE | {"head_dim": 8},
    "mistral": LLAMA_LIKE | {"sliding_window": 5},
    "phi": LLAMA_LIKE,
    "gpt2": {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2},
    "gpt_neox": TINY | {"intermediate_size": 48, "initializer_range": 0.2},
}


def load_family(name: str, tokenizer: Any, attention: str = "sdpa", **changes: Any) -> Any:
    """A fresh model of a family whose norms and biases are not all ones and zeros."""
    torch.manual_seed(0)
    config = {"model_type": name, "max_position_embeddings": TIME} | FAMILIES.get(name, LLAMA_LIKE) | changes
    model = ModelSpec(config=config, tokenizer=str(tokenizer), attn_implementation=attention).load()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, 1.0 if (parameter == 1).all() else 0.0, 0.3)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_families_of_models_give_the_loss_of_their_logits(tiny_rows_split, tiny_tokenizer_dir, family):
    model = load_family(family, tiny_tokenizer_dir)
    batch = get_batch(tiny_rows_split, range(3))
    loss = weighted_loss(model, batch, NextTokenPrediction(), neutral_ids=NEUTRAL)
    expected = nll_of(model, batch)
    torch.testing.assert_close(loss.nll, expected.detach(), rtol=1e-5, atol=1e-5)
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss.total / loss.normalizer, parameters, allow_unused=True)
    wanted = torch.autograd.grad(expected.sum() / loss.normalizer, parameters, allow_unused=True)
    for gradient, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-5)


def test_a_head_keeps_its_logits_and_its_tie(tiny_policy_dir, tmp_path):
    model, plain = ModelSpec(str(tiny_policy_dir)).load(), AutoModelForCausalLM.from_pretrained(tiny_policy_dir)
    ids = torch.arange(8)[None]
    assert torch.equal(model(ids).logits, plain(ids).logits)
    assert loss_head(model).weight is model.get_input_embeddings().weight
    assert model.state_dict().keys() == plain.state_dict().keys()
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(ids).logits, plain(ids).logits)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("gemma2", {"head_dim": 8, "final_logit_softcapping": 30.0, "initializer_range": 0.02}),
        ("gemma2", {"head_dim": 8, "final_logit_softcapping": 3.0}),
        ("granite", {"logits_scaling": 8.0, "initializer_range": 0.02}),
        ("granite", {"logits_scaling": 8.0, "pad_token_id": 0}),
        ("cohere", {"logit_scale": 0.0625}),
    ],
    ids=["gemma2", "gemma2-wide", "granite", "granite-padded-by-0", "cohere"],
)
def test_scaled_or_capped_logits_are_refused(tiny_tokenizer_dir, family, changes):
    with pytest.raises(ConfigError, match="scales or caps its logits"):
        load_family(family, tiny_tokenizer_dir, "eager", **changes)


def test_the_same_family_without_the_cap_is_accepted(tiny_rows_split, tiny_tokenizer_dir):
    model = load_family("gemma2", tiny_tokenizer_dir, "eager", head_dim=8, final_logit_softcapping=None)
    batch = get_batch(tiny_rows_split, range(2))
    loss = weighted_loss(model, batch, NextTokenPrediction(), neutral_ids=NEUTRAL)
    torch.testing.assert_close(loss.nll, nll_of(model, batch).detach(), rtol=1e-5, atol=1e-5)


def nll_of_documents(model: Any, rows: Any, indices: range) -> Tensor:
    """NLL of each document of the rows, computed on its own; zero where a row has no target."""
    batch = get_batch(rows, indices)
    expected = torch.zeros(batch.targets.shape)
    for row, positions in enumerate(batch.position_ids):
        starts = [*(positions == 0).nonzero().flatten().tolist(), len(positions)]
        for start, stop in pairwise(starts):
            ids = batch.input_ids[row : row + 1, start:stop]
            with torch.no_grad():
                logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
            nll = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
            expected[row, start : stop - 1] = nll
    return expected


FLEX = pytest.param("flex_attention", marks=pytest.mark.slow)  # compiled for each family


@pytest.mark.parametrize("attention", ["sdpa", "eager", FLEX])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_documents_score_as_they_do_alone(tiny_rows_split, tiny_tokenizer_dir, family, attention):
    if attention == "flex_attention" and family not in ("llama", "smollm3", "mistral"):
        pytest.skip("flex_attention is tried without, and with, layers of other kinds")
    model, indices = load_family(family, tiny_tokenizer_dir, attention).requires_grad_(False), range(3)
    batch = get_batch(tiny_rows_split, indices)
    with torch.no_grad():
        found = weighted_loss(model, batch, NextTokenPrediction(), neutral_ids=NEUTRAL).nll
    alone = model if attention == "eager" else load_family(family, tiny_tokenizer_dir)
    torch.testing.assert_close(found, nll_of_documents(alone, tiny_rows_split, indices), rtol=0, atol=1e-5)
    assert (found[~batch.mask] == 0).all()


def test_packed_documents_see_each_other_where_they_may(tiny_rows_split, tiny_policy_dir):
    model, indices = ModelSpec(str(tiny_policy_dir)).load(), range(3)
    batch = get_batch(tiny_rows_split, indices, document_attention=False)
    found = weighted_loss(model, batch, NextTokenPrediction(), neutral_ids=NEUTRAL).nll
    with torch.no_grad():
        logits = model(input_ids=batch.input_ids, use_cache=False).logits[:, :-1]
    expected = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch.input_ids[:, 1:], reduction="none")
    torch.testing.assert_close(found[:, :-1], expected, rtol=0, atol=1e-5)
    assert (found - nll_of_documents(model, tiny_rows_split, indices)).abs()[batch.position_ids > 33].max() > 0.1


@pytest.mark.parametrize("family", ["llama", "smollm3", "gpt2"])
def test_rows_joined_for_flash_attention_score_as_they_do_apart(
    tiny_rows_split, tiny_tokenizer_dir, monkeypatch, family
):
    model, indices = load_family(family, tiny_tokenizer_dir, "eager"), range(3)
    batch = get_batch(tiny_rows_split, indices)
    shapes: list[tuple[int, ...]] = []

    class Named(str):
        """Equal to "eager", so that transformers computes with that, yet it names flash attention."""

        def __contains__(self, part: object) -> bool:
            return part == "flash" or str.__contains__(self, str(part))

    monkeypatch.setattr(model.config, "_attn_implementation_internal", Named("eager"))
    hook = model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    hidden = hidden_states(model, batch.inputs)
    assert shapes == [(1, 3 * 50)] and hidden.shape == (3, 50, 32)
    nll = torch.nn.functional.cross_entropy(loss_head(model)(hidden).transpose(1, 2), batch.targets, reduction="none")
    monkeypatch.undo()
    hook.remove()
    torch.testing.assert_close(nll, nll_of_documents(model, tiny_rows_split, indices), rtol=0, atol=1e-5)
