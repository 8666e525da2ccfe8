"""The lab's test as a task."""

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from remit_lit.evaluation.results import Metric, TaskResult
from remit_lit.lab.evaluation import NLL_KINDS, document_nll, lab_accuracy
from remit_lit.lab.task import TEST_PROBLEMS, TokenKind, sample_problems

DOCUMENTS = 250


def measure_lab(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, limit: int | None = None) -> TaskResult:
    """Greedy accuracy on the test problems, and NLL in nats by kind of token on dev documents.

    The items are the problems. The NLLs have items of their own: the documents that have tokens of the kind, weighted
    by how many; ``value`` is the mean over tokens.

    Args:
        model: the model.
        tokenizer: the lab's.
        limit: the first so many problems, and documents of each kind; None: 2,000 and 250.

    Raises:
        ConfigError: the tokenizer is not the lab's.
    """
    problems = sample_problems(TEST_PROBLEMS, "test")[:limit]
    solved = lab_accuracy(model, tokenizer, problems)
    documents = min(limit or DOCUMENTS, DOCUMENTS)
    nll = document_nll(model, tokenizer, documents)
    metrics = {"accuracy": Metric(solved.outcomes.numpy().astype(np.float64), True)}
    for kind in NLL_KINDS:
        means, counts = nll[kind]
        # Of wrong results and of noise neither is better: a model should expect them as often as they come.
        higher = False if kind is TokenKind.CORRECT_RESULT else None
        metrics[f"nll_{kind.name.lower()}"] = Metric(means.double().numpy(), higher, counts.double().numpy())
    settings = {"problems": len(problems), "documents_of_each_kind": documents}
    return TaskResult(metrics, tuple(problem.prompt for problem in problems), settings=settings)
