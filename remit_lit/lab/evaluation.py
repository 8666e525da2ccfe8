"""How well a model solves the lab's task, and the loss on each kind of token: teacher-forced forward passes alone."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from remit_lit.errors import ConfigError, require_at_least
from remit_lit.lab.documents import Kind, lab_documents
from remit_lit.lab.task import OPERATORS, RESULT_PLACES, Problem, TokenKind, correct_completion, token_kinds
from remit_lit.lab.tokenizer import EOS, check_lab_tokenizer

NLL_KINDS = (
    TokenKind.CORRECT_RESULT,
    TokenKind.WRONG_RESULT,
    TokenKind.ANSWER,
    TokenKind.OPERAND,
    TokenKind.WEB,
    TokenKind.NOISE,
)
_DOCUMENTS: tuple[Kind, ...] = ("correct", "wrong", "noise", "web")


class LabAccuracy(NamedTuple):
    """Share of problems solved.

    Attributes:
        accuracy: in [0, 1].
        standard_error: of the accuracy, from the binomial distribution.
        outcomes: whether each problem was solved, bool [problems].
    """

    accuracy: float
    standard_error: float
    outcomes: Tensor


@dataclass(frozen=True, eq=False)
class LabScores:
    """What a model makes of each problem, given the question and the correct trace up to each token.

    Attributes:
        operators: rank of the operator of each step, 0 for the most frequent, int64 [problems, steps].
        probabilities: of the correct result of each step, float32 [problems, steps].
        likeliest: whether the likeliest token is the correct one, for each token of the completion and the EOS after
            it, bool [problems, tokens].
    """

    operators: Tensor
    probabilities: Tensor
    likeliest: Tensor

    @property
    def exact(self) -> Tensor:
        """Whether greedy decoding writes the whole correct trace and answer, and ends, bool [problems].

        It does exactly where each correct token is the likeliest after the correct ones before it.
        """
        return self.likeliest.all(dim=1)

    @property
    def steps(self) -> Tensor:
        """Whether the likeliest result of each step is the correct one, bool [problems, steps]."""
        return self.likeliest[:, list(RESULT_PLACES)]

    @property
    def accuracy(self) -> LabAccuracy:
        """The share of exact traces."""
        share = self.exact.double().mean().item()
        return LabAccuracy(share, (share * (1 - share) / len(self.exact)) ** 0.5, self.exact)

    def figures(self) -> dict[str, float]:
        """Means over all problems: ``accuracy`` (exact traces), ``step_accuracy`` and ``probability``."""
        return {
            "accuracy": self.accuracy.accuracy,
            "step_accuracy": self.steps.double().mean().item(),
            "probability": self.probabilities.double().mean().item(),
        }


def lab_scores(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problems: Sequence[Problem], batch_size: int = 500
) -> LabScores:
    """Score the correct completions of ``problems``. All documents are equally long, so a batch needs no padding.

    Training mode is restored, and no random number is drawn.

    Raises:
        ConfigError: ``problems`` is empty, or the tokenizer is not the lab's.
    """
    if not problems:
        raise ConfigError("problems: got none; give at least one")
    check_lab_tokenizer(tokenizer)
    texts = [problem.prompt + correct_completion(problem) + EOS for problem in problems]
    length = len(texts[0]) - len(problems[0].prompt)
    probabilities, likeliest = [], []
    for logits, targets in _logits(model, tokenizer, texts, batch_size):
        logits, targets = logits[:, -length:], targets[:, -length:]  # of the completion and EOS
        results = logits[:, list(RESULT_PLACES)].softmax(-1)  # [batch, steps, vocab]
        probabilities.append(results.gather(-1, targets[:, list(RESULT_PLACES), None])[..., 0])
        likeliest.append(logits.argmax(-1) == targets)
    operators = torch.tensor([[OPERATORS.index(operator) for operator, _ in problem.steps] for problem in problems])
    return LabScores(operators, torch.cat(probabilities).cpu(), torch.cat(likeliest).cpu())


def lab_accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problems: Sequence[Problem], batch_size: int = 500
) -> LabAccuracy:
    """The share of problems whose whole correct trace greedy decoding writes; see :func:`lab_scores`.

    Raises:
        ConfigError: ``problems`` is empty, or the tokenizer is not the lab's.
    """
    return lab_scores(model, tokenizer, problems, batch_size).accuracy


def result_nll(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, documents: int = 250, batch_size: int = 500
) -> dict[TokenKind, float]:
    """Mean NLL in nats of the tokens of each of ``NLL_KINDS``.

    Measured on ``documents`` dev documents each with correct traces, with misconception traces, of noise, and web-like.

    Raises:
        ConfigError: ``documents`` is below 1, or the tokenizer is not the lab's.
    """
    losses, kind_ids = _token_nll(model, tokenizer, documents, batch_size)
    return {kind: losses[kind_ids == kind].mean().item() for kind in NLL_KINDS}


def document_nll(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, documents: int = 250, batch_size: int = 500
) -> dict[TokenKind, tuple[Tensor, Tensor]]:
    """:func:`result_nll` by document: mean NLL in nats of its tokens of each kind, and how many it has.

    Both are [documents] on the CPU, of the documents that have such tokens.

    Raises:
        ConfigError: ``documents`` is below 1, or the tokenizer is not the lab's.
    """
    losses, kind_ids = _token_nll(model, tokenizer, documents, batch_size)
    figures = {}
    for kind in NLL_KINDS:
        chosen = kind_ids == kind
        counts = chosen.sum(dim=1)
        means = (losses.double() * chosen).sum(dim=1) / counts
        figures[kind] = means[counts > 0].cpu(), counts[counts > 0].cpu()
    return figures


def _token_nll(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, documents: int, batch_size: int
) -> tuple[Tensor, Tensor]:
    """NLL in nats and kind of each token, both [documents of all sorts, characters]."""
    require_at_least("documents", documents, 1)
    check_lab_tokenizer(tokenizer)
    texts, kinds = _documents(documents)
    nll = [
        torch.nn.functional.cross_entropy(logits.mT, targets, reduction="none")
        for logits, targets in _logits(model, tokenizer, texts, batch_size)
    ]
    return torch.cat(nll), torch.tensor(kinds, device=model.device)


@cache  # the same ones at each point of a learning curve
def _documents(count: int) -> tuple[list[str], list[list[TokenKind]]]:
    """Dev documents of all sorts, and the kind of each of their characters."""
    texts, kinds = [], []
    whole = {"noise": TokenKind.NOISE, "web": TokenKind.WEB}
    for sort in _DOCUMENTS:
        for text in islice(lab_documents(sort, "dev", random.Random(f"evaluation/{sort}")), count):
            texts.append(text)
            kinds.append([whole[sort]] * len(text) if sort in whole else token_kinds(text))
    return texts, kinds


def _logits(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits of texts of equal length, ``batch_size`` at a time, float32 [batch, characters, vocab]; and the characters
    themselves, int64 [batch, characters]."""
    with _evaluating(model):
        for start in range(0, len(texts), batch_size):
            encoded = tokenizer(list(texts[start : start + batch_size]), return_tensors="pt")
            input_ids: Tensor = encoded["input_ids"].to(model.device)  # type: ignore[union-attr]
            logits: Tensor = model(input_ids=input_ids[:, :-1], use_cache=False).logits
            yield logits.float(), input_ids[:, 1:]


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
