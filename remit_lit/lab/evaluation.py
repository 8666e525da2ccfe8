"""How well a model solves the lab's task: greedy accuracy, and the loss on right, wrong and noise tokens."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from remit_lit.errors import ConfigError
from remit_lit.lab.documents import lab_documents
from remit_lit.lab.task import Problem, TokenKind, correct_completion, is_correct, token_kinds
from remit_lit.lab.tokenizer import EOS, check_lab_tokenizer

NLL_KINDS = (TokenKind.CORRECT_RESULT, TokenKind.WRONG_RESULT, TokenKind.NOISE)


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


def lab_accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problems: Sequence[Problem], batch_size: int = 500
) -> LabAccuracy:
    """Greedy exact-answer accuracy. All prompts are equally long, so a batch needs no padding.

    Training mode is restored, and no random number is drawn.

    Raises:
        ConfigError: ``problems`` is empty, or the tokenizer is not the lab's.
    """
    if not problems:
        raise ConfigError("problems: got none; give at least one")
    check_lab_tokenizer(tokenizer)
    new_tokens = len(correct_completion(problems[0])) + len(EOS)
    outcomes: list[bool] = []
    with _evaluating(model):
        for start in range(0, len(problems), batch_size):
            batch = problems[start : start + batch_size]
            prompts = _encode(tokenizer, [problem.prompt for problem in batch], model.device)
            generated = model.generate(  # type: ignore[operator]
                prompts,
                attention_mask=torch.ones_like(prompts),
                max_new_tokens=new_tokens,
                do_sample=False,
                num_beams=1,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
            completions = tokenizer.batch_decode(generated[:, prompts.shape[1] :], skip_special_tokens=False)
            ended = (completion.split(EOS, 1)[0] for completion in completions)
            outcomes += [is_correct(problem, text) for problem, text in zip(batch, ended, strict=True)]
    solved = torch.tensor(outcomes)
    accuracy = solved.float().mean().item()
    return LabAccuracy(accuracy, (accuracy * (1 - accuracy) / len(outcomes)) ** 0.5, solved)


def result_nll(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, documents: int = 250, batch_size: int = 500
) -> dict[TokenKind, float]:
    """Mean NLL in nats of correct-result, wrong-result and noise tokens.

    Measured on ``documents`` dev documents each with correct traces, with misconception traces, and of noise.

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
    """NLL in nats and kind of each token, both [documents of all three sorts, characters]."""
    if documents < 1:
        raise ConfigError(f"documents: got {documents}; give at least 1")
    check_lab_tokenizer(tokenizer)
    texts, kinds = _documents(documents)
    kind_ids = torch.tensor(kinds, device=model.device)  # [documents, characters]
    nll = []
    with _evaluating(model):
        for start in range(0, len(texts), batch_size):
            input_ids = _encode(tokenizer, texts[start : start + batch_size], model.device)  # [batch, 1 + characters]
            logits = model(input_ids=input_ids[:, :-1], use_cache=False).logits.float()  # [batch, characters, vocab]
            nll.append(torch.nn.functional.cross_entropy(logits.mT, input_ids[:, 1:], reduction="none"))
    return torch.cat(nll), kind_ids


@cache  # the same ones at each point of a learning curve
def _documents(count: int) -> tuple[list[str], list[list[TokenKind]]]:
    """Dev documents of all three sorts, and the kind of each of their characters."""
    texts, kinds = [], []
    for kind in ("correct", "wrong", "noise"):
        rng = random.Random(f"evaluation/{kind}")
        for text in islice(lab_documents(kind, "dev", rng), count):
            texts.append(text)
            kinds.append([TokenKind.NOISE] * len(text) if kind == "noise" else token_kinds(text))
    return texts, kinds


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str], device: torch.device) -> Tensor:
    """Texts of equal length as ids with BOS, int64 [batch, time]."""
    ids: Tensor = tokenizer(texts, return_tensors="pt")["input_ids"]
    return ids.to(device)


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
