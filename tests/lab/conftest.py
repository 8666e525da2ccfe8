import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from remit_lit.lab.tokenizer import build_tokenizer
from remit_lit.recipes.lab_budgets import model_config


@pytest.fixture
def tokenizer():
    return build_tokenizer()


@pytest.fixture
def fresh_model():
    """A small untrained Llama of the lab's kind."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model(**{**model_config(), "hidden_size": 32, "num_hidden_layers": 1})
        return AutoModelForCausalLM.from_config(config)
