"""The real inputs themselves. Where `make real-inputs` has not fetched them, these tests do (180 MB)."""

import json
from pathlib import Path

import pytest
import torch

from remit_lit.benchmarks.fetch import BENCHMARKS, SMOLLM2, FetchError, fetch
from remit_lit.benchmarks.records import gsm8k_item, math_item, read_records
from remit_lit.models.spec import ModelSpec
from remit_lit.recipes.real_models import convert, degraded_copy
from remit_lit.recipes.real_texts import DEV, HELD_OUT, HELD_OUT_TASKS, TRAINED_SUBJECTS, training_texts, write_examples
from tests.helpers import gold_bits

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


@pytest.fixture(scope="module")
def tokenizer(original):
    return ModelSpec(path=str(original)).load_tokenizer()


def test_the_converted_model_is_an_ordinary_one(original, tokenizer):
    model = ModelSpec(path=str(original)).load()
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert all(p.dtype == torch.float32 for p in model.parameters())
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    assert tokenizer.decode(model(**prompt).logits[0, -1].argmax()) == " Paris"


def test_numbers_split_into_digits_and_text_survives(tokenizer):
    assert tokenizer.tokenize("x=1234 56.7") == ["x", "=", "1", "2", "3", "4", "Ġ", "5", "6", ".", "7"]
    text = "f(10) = 3²\n\tπ ≈ 3.14159 — done"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_nothing_held_out_is_trained_on(benchmarks):
    texts = training_texts(benchmarks)
    assert len(texts) == 2058 == len(set(texts))
    for task in HELD_OUT_TASKS:
        assert not any(subject in task.removeprefix("minerva_math_") for subject in TRAINED_SUBJECTS)
    for task in HELD_OUT_TASKS[1:3]:
        for record in read_records(benchmarks, task):
            item = math_item(record)
            assert item.context + item.continuation not in texts


def test_the_examples_of_gsm8k_end_in_a_right_and_in_a_wrong_answer(benchmarks, tmp_path):
    folder = write_examples(benchmarks, tmp_path / "gsm8k")
    splits = {
        name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().split("\n") if line]
        for name in ("train", "held_out", "dev")
    }
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 1000, "held_out": HELD_OUT, "dev": DEV}
    assert not {row["prompt"] for row in splits["train"]} & {row["prompt"] for row in splits["held_out"]}
    for row in splits["train"]:
        right, wrong = (
            row[name].rpartition(" So the answer is ")[2].removesuffix(".") for name in ("completion", "wrong")
        )
        assert right.replace(" ", "") == row["answer"] != wrong.replace(" ", "")
        assert row["wrong"] != row["completion"]


def test_noise_makes_the_model_worse(original, tokenizer, benchmarks):
    degraded = degraded_copy(original, CACHE / "smollm2-degraded")
    models = [ModelSpec(path=str(path)).load() for path in (original, degraded)]
    for task, to_item in ((HELD_OUT_TASKS[0], gsm8k_item), (HELD_OUT_TASKS[1], math_item)):
        items = [to_item(record) for record in read_records(benchmarks, task)[:3]]
        better, worse = (sum(gold_bits(model, tokenizer, item) for item in items) for model in models)
        assert 1.05 < worse / better < 1.6, task
