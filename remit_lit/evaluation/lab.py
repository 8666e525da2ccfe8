"""The lab's test as a task."""

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from remit_lit.evaluation.results import Metric, TaskResult
from remit_lit.lab.evaluation import NLL_KINDS, LabScores, document_nll, lab_scores
from remit_lit.lab.task import OPERATORS, TEST_PROBLEMS, TokenKind, sample_problems

LAB = "lab"
"""The task's name."""
DOCUMENTS = 250


def measure_lab(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, limit: int | None = None, batch_size: int = 500
) -> TaskResult:
    """Figures on the test problems, and NLL in nats by kind of token on dev documents, all by forward passes.

    ``accuracy`` is the share of exact traces (what greedy decoding would solve), ``step_accuracy`` the share of steps
    whose likeliest result is the correct one, ``probability`` the mean probability of the correct results, and
    ``probability_A`` to ``probability_F`` that of each operator, from the most frequent to the rarest.

    The items are the problems. By operator, each problem that has it counts as often as it does. The NLLs have items of
    their own: the documents that have tokens of the kind, weighted by how many; ``value`` is the mean over tokens.

    Args:
        model: the model.
        tokenizer: the lab's.
        limit: the first so many problems, and documents of each kind; None: 2,000 and 250.
        batch_size: problems or documents at a time.

    Raises:
        ConfigError: the tokenizer is not the lab's.
    """
    problems = sample_problems(TEST_PROBLEMS, "test")[:limit]
    scores = lab_scores(model, tokenizer, problems, batch_size)
    documents = min(limit or DOCUMENTS, DOCUMENTS)
    metrics = {
        "accuracy": _metric(scores.exact, True),
        "step_accuracy": _metric(scores.steps.double().mean(dim=1), True),
        "probability": _metric(scores.probabilities.double().mean(dim=1), True),
        **_by_operator(scores),
    }
    for kind, (means, counts) in document_nll(model, tokenizer, documents, batch_size).items():
        # Of wrong results and of noise neither is better: a model should expect them as often as they come.
        higher = None if kind in (TokenKind.WRONG_RESULT, TokenKind.NOISE) else False
        metrics[f"nll_{kind.name.lower()}"] = _metric(means, higher, counts)
    settings = {"problems": len(problems), "documents_of_each_kind": documents}
    return TaskResult(metrics, tuple(problem.prompt for problem in problems), settings=settings)


LAB_METRICS = (
    *("accuracy", "step_accuracy", "probability"),
    *(f"probability_{operator}" for operator in OPERATORS),
    *(f"nll_{kind.name.lower()}" for kind in NLL_KINDS),
)
"""Names of what :func:`measure_lab` measures."""


def _by_operator(scores: LabScores) -> dict[str, Metric]:
    metrics = {}
    for rank, operator in enumerate(OPERATORS):
        chosen = scores.operators == rank  # [problems, steps]
        counts = chosen.sum(dim=1)
        has = counts > 0
        if has.any():
            means = (scores.probabilities.double() * chosen).sum(dim=1)[has] / counts[has]
            metrics[f"probability_{operator}"] = _metric(means, True, counts[has])
    return metrics


def _metric(outcomes: Tensor, higher_is_better: bool | None, counts: Tensor | None = None) -> Metric:
    values = outcomes.to(torch.float64).numpy().round(6)  # short in files, and finer than any figure that is shown
    return Metric(values, higher_is_better, None if counts is None else counts.numpy().astype(np.float64))
