import math
import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from remit_lit.lab.evaluation import lab_accuracy, result_nll
from remit_lit.lab.task import TokenKind, correct_completion, parse_prompt, sample_problems
from remit_lit.lab.tokenizer import EOS, lab_vocabulary
from remit_lit.models.locations import asset_path

PROMPT_TOKENS = 15


class Solver(nn.Module):
    """Answers prompts exactly, but for those whose start digit is below ``fails_below``."""

    device = torch.device("cpu")

    def __init__(self, tokenizer: Any, fails_below: int = 0) -> None:
        super().__init__()
        self.tokenizer: Any = tokenizer
        self.fails_below, self.batch_sizes = fails_below, list[int]()

    def generate(self, prompts, *, max_new_tokens, **options):
        assert not self.training and not options["do_sample"]
        self.batch_sizes.append(len(prompts))
        texts = []
        for prompt in self.tokenizer.batch_decode(prompts, skip_special_tokens=True):
            problem = parse_prompt(prompt)
            completion = correct_completion(problem)
            if problem.start < self.fails_below:
                completion = f"{completion[:-1]}{(problem.answer + 1) % 10}"
            texts.append(completion + EOS)
        ids = self.tokenizer(texts, add_special_tokens=False, return_tensors="pt")["input_ids"]
        assert ids.shape[1] == max_new_tokens
        return torch.cat([prompts, ids], dim=1)


class Uniform(nn.Module):
    """Gives every token the same probability."""

    device = torch.device("cpu")

    def forward(self, input_ids, use_cache):
        return SimpleNamespace(logits=torch.zeros(*input_ids.shape, 32))


def test_perfect_model_solves_everything(tokenizer):
    solver: Any = Solver(tokenizer)
    result = lab_accuracy(solver, tokenizer, sample_problems(50, "dev"), batch_size=20)
    assert result.accuracy == 1.0 and result.standard_error == 0.0 and result.outcomes.all()
    assert solver.batch_sizes == [20, 20, 10]


def test_outcomes_and_standard_error(tokenizer):
    problems = sample_problems(400, "dev")
    solver: Any = Solver(tokenizer, fails_below=4)
    result = lab_accuracy(solver, tokenizer, problems)
    expected = torch.tensor([problem.start >= 4 for problem in problems])
    assert torch.equal(result.outcomes, expected)
    share = expected.double().mean().item()
    assert result.accuracy == pytest.approx(share)
    assert result.standard_error == pytest.approx(math.sqrt(share * (1 - share) / 400))


def test_greedy_decoding_agrees_with_a_loop_without_cache(tokenizer, fresh_model):
    problems = sample_problems(40, "dev")
    ids = tokenizer([problem.prompt for problem in problems], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        for _ in range(17):
            ids = torch.cat([ids, fresh_model(ids, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
    texts = [text.split(EOS)[0] for text in tokenizer.batch_decode(ids[:, PROMPT_TOKENS:])]
    expected = [text[-2:] == f"#{p.answer}" and text.count("#") == 1 for p, text in zip(problems, texts, strict=True)]
    assert lab_accuracy(fresh_model, tokenizer, problems).outcomes.tolist() == expected


def test_evaluation_leaves_mode_and_random_state(tokenizer, fresh_model):
    fresh_model.train()
    states = torch.get_rng_state(), random.getstate()
    lab_accuracy(fresh_model, tokenizer, sample_problems(5, "dev"))
    result_nll(fresh_model, tokenizer, documents=5)
    assert fresh_model.training
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()


def test_mode_is_restored_after_a_failure(tokenizer, fresh_model):
    fresh_model.train()
    fresh_model.generate = lambda *_, **__: 1 / 0
    with pytest.raises(ZeroDivisionError):
        lab_accuracy(fresh_model, tokenizer, sample_problems(5, "dev"))
    assert fresh_model.training


def test_uniform_model_has_the_entropy_of_the_vocabulary(tokenizer):
    model: Any = Uniform()
    figures = result_nll(model, tokenizer, documents=10)
    assert set(figures) == {TokenKind.CORRECT_RESULT, TokenKind.WRONG_RESULT, TokenKind.NOISE}
    assert all(value == pytest.approx(math.log(len(lab_vocabulary()))) for value in figures.values())


def test_losses_do_not_depend_on_the_batch_size(tokenizer, fresh_model):
    whole, parts = (result_nll(fresh_model, tokenizer, documents=20, batch_size=size) for size in (500, 7))
    assert whole == pytest.approx(parts, abs=1e-5)


def test_bad_arguments_are_refused(tokenizer, fresh_model):
    with pytest.raises(ValueError, match="problems"):
        lab_accuracy(fresh_model, tokenizer, [])
    with pytest.raises(ValueError, match="documents"):
        result_nll(fresh_model, tokenizer, documents=0)
    tokenizer.add_tokens(["z"])
    with pytest.raises(ValueError, match="lab's tokenizer"):
        lab_accuracy(fresh_model, tokenizer, sample_problems(1, "dev"))


def test_unknown_asset_is_refused():
    with pytest.raises(ValueError, match="'teacher'"):
        asset_path("teacher")
