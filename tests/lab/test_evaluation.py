import math
import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from remit_lit.lab.evaluation import NLL_KINDS, document_nll, lab_accuracy, lab_scores, result_nll
from remit_lit.lab.task import OPERATORS, STEPS, correct_completion, parse_prompt, sample_problems
from remit_lit.lab.tokenizer import EOS, lab_vocabulary
from remit_lit.models.locations import asset_path

PROMPT_TOKENS, COMPLETION_TOKENS = 15, 18
RESULTS = [PROMPT_TOKENS + 3 * step + 2 for step in range(STEPS)]


class Solver(nn.Module):
    """Knows all correct documents, but for the answer where the start value is below ``fails_below``."""

    device = torch.device("cpu")

    def __init__(self, tokenizer: Any, fails_below: int = 0) -> None:
        super().__init__()
        self.tokenizer: Any = tokenizer
        self.fails_below, self.batch_sizes = fails_below, list[int]()

    def forward(self, input_ids, use_cache):
        assert not self.training
        self.batch_sizes.append(len(input_ids))
        texts = self.tokenizer.batch_decode(input_ids, skip_special_tokens=True)
        logits = torch.zeros(*input_ids.shape, len(lab_vocabulary()))
        for row, text in enumerate(texts):
            problem = parse_prompt(text[: text.index("=") + 1])
            right = problem.prompt + correct_completion(problem) + EOS
            if problem.start < self.fails_below:
                right = f"{right[:-2]}{(problem.answer + 1) % 6}{EOS}"
            for place, character in enumerate(right):
                logits[row, place, lab_vocabulary()[character]] = 9.0
        return SimpleNamespace(logits=logits)


class Uniform(nn.Module):
    """Gives every token the same probability."""

    device = torch.device("cpu")

    def forward(self, input_ids, use_cache):
        return SimpleNamespace(logits=torch.zeros(*input_ids.shape, len(lab_vocabulary())))


def test_a_model_that_knows_everything_solves_everything(tokenizer):
    solver: Any = Solver(tokenizer)
    scores = lab_scores(solver, tokenizer, sample_problems(50, "dev"), batch_size=20)
    assert scores.accuracy.accuracy == 1.0 and scores.accuracy.standard_error == 0.0 and scores.exact.all()
    expected = math.exp(9) / (math.exp(9) + 31)
    assert scores.figures() == pytest.approx({"accuracy": 1.0, "step_accuracy": 1.0, "probability": expected})
    assert solver.batch_sizes == [20, 20, 10]


def test_outcomes_and_standard_error(tokenizer):
    problems = sample_problems(400, "dev")
    solver: Any = Solver(tokenizer, fails_below=3)
    scores = lab_scores(solver, tokenizer, problems)
    expected = torch.tensor([problem.start >= 3 for problem in problems])
    assert torch.equal(scores.exact, expected)
    assert scores.steps.all()  # only the answer is wrong
    share = expected.double().mean().item()
    assert lab_accuracy(solver, tokenizer, problems).accuracy == pytest.approx(share)
    assert scores.accuracy.standard_error == pytest.approx(math.sqrt(share * (1 - share) / 400))


@pytest.mark.parametrize("name", ["fresh", "base", "reference"])
def test_exact_traces_are_what_greedy_decoding_writes(name, tokenizer, fresh_model):
    model: Any = fresh_model if name == "fresh" else AutoModelForCausalLM.from_pretrained(asset_path(name))
    problems = sample_problems(300, "dev")
    prompts = tokenizer([problem.prompt for problem in problems], return_tensors="pt")["input_ids"]
    written = model.eval().generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=COMPLETION_TOKENS,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    texts = tokenizer.batch_decode(written[:, PROMPT_TOKENS:], skip_special_tokens=False)
    expected = [text == correct_completion(p) + EOS for text, p in zip(texts, problems, strict=True)]
    assert lab_scores(model, tokenizer, problems).exact.tolist() == expected
    assert any(expected) == (name != "fresh")


def test_probabilities_agree_with_one_document_and_step_at_a_time(tokenizer, fresh_model):
    problems = sample_problems(6, "dev")
    scores = lab_scores(fresh_model, tokenizer, problems, batch_size=4)
    for row, problem in enumerate(problems):
        document = problem.prompt + correct_completion(problem)
        for step, place in enumerate(RESULTS):
            before = document[: place - 1]
            ids = tokenizer(before, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                probabilities = fresh_model.eval()(ids).logits[0, -1].double().softmax(-1)
            right = lab_vocabulary()[str(problem.results[step])]
            assert scores.probabilities[row, step].item() == pytest.approx(probabilities[right].item(), abs=1e-6)
            assert scores.steps[row, step].item() == (probabilities.argmax().item() == right)
            assert OPERATORS[scores.operators[row, step]] == problem.steps[step][0]


def test_evaluation_leaves_mode_and_random_state(tokenizer, fresh_model):
    fresh_model.train()
    states = torch.get_rng_state(), random.getstate()
    lab_accuracy(fresh_model, tokenizer, sample_problems(5, "dev"))
    result_nll(fresh_model, tokenizer, documents=5)
    assert fresh_model.training
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()


def test_mode_is_restored_after_a_failure(tokenizer, fresh_model):
    fresh_model.train()
    fresh_model.forward = lambda *_, **__: 1 / 0
    with pytest.raises(ZeroDivisionError):
        lab_accuracy(fresh_model, tokenizer, sample_problems(5, "dev"))
    assert fresh_model.training


def test_uniform_model_has_the_entropy_of_the_vocabulary(tokenizer):
    model: Any = Uniform()
    figures = result_nll(model, tokenizer, documents=10)
    assert set(figures) == set(NLL_KINDS)
    assert all(value == pytest.approx(math.log(len(lab_vocabulary()))) for value in figures.values())


def test_losses_by_document_have_the_same_mean(tokenizer, fresh_model):
    whole = result_nll(fresh_model, tokenizer, documents=20)
    for kind, (means, counts) in document_nll(fresh_model, tokenizer, documents=20).items():
        assert (means * counts).sum().item() / counts.sum().item() == pytest.approx(whole[kind], abs=1e-5)


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
    with pytest.raises(ValueError, match="got 'lab/teacher'; the embedded models are lab/base, "):
        asset_path("teacher")
