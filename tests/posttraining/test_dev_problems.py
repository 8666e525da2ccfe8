"""KL to the start against the models' own logits, one completion at a time."""

from pathlib import Path
from typing import Any

import pytest
import torch

from remit_lit.models.spec import ModelSpec
from remit_lit.posttraining.dev_problems import kl_to_start
from remit_lit.posttraining.sampling import draw

PROMPTS = ["Q:1A2=", "Q:1A2A3=", "Q:5B4C2="]
DRAWN: dict[str, Any] = {"max_new_tokens": 5, "temperature": 1.3, "batch_size": 2, "seed": 3}


def test_it_is_the_mean_over_the_tokens_of_each_completion(tiny_policy_dir: Path) -> None:
    spec = ModelSpec(str(tiny_policy_dir))
    tokenizer, model, start = spec.load_tokenizer(), spec.load(), spec.load()
    torch.manual_seed(0)
    for weight in model.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    divergences = []
    for _, rows in draw(model, tokenizer, PROMPTS, samples=1, **DRAWN):
        for prompt, completion in rows:
            ids = torch.tensor([prompt + completion])
            with torch.no_grad():
                new, old = (m(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1) for m in (model, start))
            divergences += ((new.exp() * (new - old)).sum(-1)).tolist()
    found = kl_to_start(model, start, tokenizer, PROMPTS, **DRAWN)
    assert found == pytest.approx(sum(divergences) / len(divergences), rel=1e-5) and found > 0.01
    assert kl_to_start(start, start, tokenizer, PROMPTS, **DRAWN) == pytest.approx(0.0, abs=1e-9)


def test_a_completion_ends_with_its_eos(tiny_policy_dir: Path) -> None:
    spec = ModelSpec(str(tiny_policy_dir))
    tokenizer, model = spec.load_tokenizer(), spec.load()
    drawn = draw(model, tokenizer, PROMPTS * 20, samples=2, max_new_tokens=40, temperature=1.0, batch_size=8, seed=0)
    completions = [completion for _, rows in drawn for _, completion in rows]
    ended = [completion for completion in completions if tokenizer.eos_token_id in completion]
    assert len(completions) == 120 and len(ended) > 10
    assert all(completion.index(tokenizer.eos_token_id) == len(completion) - 1 for completion in ended)
    assert all(len(completion) == 40 for completion in completions if completion not in ended)
