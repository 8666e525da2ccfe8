import copy

import pytest
import torch
from transformers import LlamaForCausalLM

from remit_lit.errors import ConfigError
from remit_lit.recipes.real_models import add_noise
from tests.helpers import llama_config


def tiny_llama(tied: bool) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(llama_config(vocab_size=300, tie_word_embeddings=tied))


@pytest.mark.parametrize("tied", [True, False])
def test_every_matrix_gets_noise_of_its_own_scale_once(tied):
    model = tiny_llama(tied)
    before = copy.deepcopy(model)
    matrices = 2 * 7 + (1 if tied else 2)
    assert add_noise(model, 0.08, seed=0) == matrices
    for (name, new), old in zip(model.named_parameters(), before.parameters(), strict=True):
        if old.ndim < 2:
            assert torch.equal(new, old), name
        else:
            ratio = ((new - old).std() / old.std()).item()
            # Twice the noise on a tied matrix would show as a ratio of 0.11.
            assert ratio == pytest.approx(0.08, rel=4 / (2 * old.numel()) ** 0.5), name
    assert (model.lm_head.weight is model.get_input_embeddings().weight) is tied


def test_the_seed_decides():
    models = [tiny_llama(True) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        add_noise(model, 0.08, seed)
    first, same, other = (model.lm_head.weight for model in models)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_no_noise_changes_nothing_and_negative_noise_is_refused():
    model = tiny_llama(True)
    before = model.lm_head.weight.clone()
    add_noise(model, 0.0, seed=0)
    assert torch.equal(model.lm_head.weight, before)
    with pytest.raises(ConfigError, match=r"noise: got -0\.1"):
        add_noise(model, -0.1, seed=0)
