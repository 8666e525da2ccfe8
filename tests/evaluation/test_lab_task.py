"""The lab's test as a task."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from remit_lit.errors import ConfigError
from remit_lit.evaluation.harness import run_tasks
from remit_lit.lab.evaluation import lab_accuracy, lab_scores, result_nll
from remit_lit.lab.task import sample_problems
from remit_lit.models.locations import asset_path


@pytest.fixture(scope="module")
def base() -> tuple[Any, Any]:
    path = asset_path("base")
    return AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)


def test_the_lab_task_is_the_labs_accuracy_and_losses(base: tuple[Any, Any]) -> None:
    result = run_tasks(*base, ["lab"], limit=60)["lab"]
    problems = sample_problems(2000, "test")[:60]
    expected = lab_accuracy(*base, problems)
    assert result.metrics["accuracy"].outcomes.tolist() == expected.outcomes.tolist()
    assert result.metrics["accuracy"].value == pytest.approx(expected.accuracy)
    assert result.items == tuple(problem.prompt for problem in problems)
    losses = {f"nll_{kind.name.lower()}": value for kind, value in result_nll(*base, documents=60).items()}
    measured = {name: metric.value for name, metric in result.metrics.items() if name.startswith("nll_")}
    assert measured == pytest.approx(losses, abs=1e-5)
    assert result.settings["problems"] == 60


def test_figures_by_operator_are_means_over_its_steps(base: tuple[Any, Any]) -> None:
    metrics = run_tasks(*base, ["lab"], limit=40)["lab"].metrics
    problems = sample_problems(2000, "test")[:40]
    scores = lab_scores(*base, problems)
    every: list[float] = []
    for operator in "ABCDEF":
        chosen = [
            scores.probabilities[row, step].item()
            for row, problem in enumerate(problems)
            for step, (of_step, _) in enumerate(problem.steps)
            if of_step == operator
        ]
        assert metrics[f"probability_{operator}"].value == pytest.approx(sum(chosen) / len(chosen), abs=1e-5)
        every += chosen
    assert metrics["probability"].value == pytest.approx(sum(every) / len(every), abs=1e-5)


def test_all_problems_and_documents_are_asked_without_a_limit(
    base: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remit_lit.evaluation.lab.TEST_PROBLEMS", 40)
    monkeypatch.setattr("remit_lit.evaluation.lab.DOCUMENTS", 7)
    result = run_tasks(*base, ["lab"])["lab"]
    assert len(result.metrics["accuracy"].outcomes) == 40
    assert len(result.metrics["nll_noise"].outcomes) == 7
    weights = result.metrics["nll_noise"].weights
    assert weights is not None and weights.tolist() == [31] * 7


def test_a_model_of_another_tokenizer_is_refused_before_anything_is_measured(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.Module, "__call__", lambda *_, **__: pytest.fail("the model ran"))
    with pytest.raises(ConfigError, match="lab's tokenizer"):
        run_tasks(model, tokenizer, ["offline_mmlu", "lab"])
