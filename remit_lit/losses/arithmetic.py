"""What is computed of the logits of some tokens: their scores, and the gradient that takes the logits' place.

Each comes in two forms with the same values up to rounding. The eager one reads the logits once for every operation,
and copies a little at a time. The compiled one (torch.compile) reads them in one pass, or two for the softmax, and
copies nothing.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

# Copied at a time by the eager form: 1 MiB of float32, which fits a cache.
COPIED_LOGITS = 2**18


def scores(logits: Tensor, targets: Tensor, with_entropy: bool) -> tuple[Tensor, ...]:
    """NLL, log-normaliser and, where it is asked for, entropy, nats, [tokens] each.

    Args:
        logits: at least float32, [tokens, vocab].
        targets: ids, [tokens].
        with_entropy: of the distribution that a target is drawn from.
    """
    # `logsumexp` copies its input, so it gets a little at a time.
    parts = logits.split(max(1, COPIED_LOGITS // logits.shape[1]))
    log_normalizers = [part.logsumexp(-1) for part in parts]
    log_normalizer = torch.cat(log_normalizers)
    nll = log_normalizer - logits.gather(-1, targets[:, None])[:, 0]
    if not with_entropy:
        return nll, log_normalizer
    expected = [_expected_logit_(*pair) for pair in zip(parts, log_normalizers, strict=True)]
    return nll, log_normalizer, log_normalizer - torch.cat(expected)


def _expected_logit_(logits: Tensor, log_normalizer: Tensor) -> Tensor:
    """Mean of the logits under their own softmax, [tokens]; a token that cannot come (-inf) adds nothing."""
    probabilities = (logits - log_normalizer[:, None]).exp_()
    return probabilities.mul_(logits.clamp(min=torch.finfo(logits.dtype).min)).sum(-1)


def gradient_(
    logits: Tensor,
    log_normalizer: Tensor,
    targets: Tensor,
    d_nll: Tensor,
    d_log_normalizer: Tensor,
    dtype: torch.dtype,
    with_sum: bool,
) -> tuple[Tensor, Tensor | None]:
    """Gradient of the logits, ``d_nll * (softmax - onehot) + d_log_normalizer * softmax``, over them.

    Args:
        logits: [tokens, vocab]; lost.
        log_normalizer: of them, [tokens].
        targets: ids, [tokens].
        d_nll: gradient of the NLL, [tokens].
        d_log_normalizer: gradient of the log-normaliser, [tokens].
        dtype: of the result.
        with_sum: also give the sum over the tokens, in the logits' type.

    Returns:
        The gradient, [tokens, vocab], and its sum, [vocab], or None.
    """
    softmax = logits.sub_(log_normalizer[:, None]).exp_()
    d_logits = softmax.mul_((d_nll + d_log_normalizer)[:, None])
    d_logits.scatter_add_(-1, targets[:, None], -d_nll[:, None])
    return d_logits.to(dtype), d_logits.sum(0) if with_sum else None


def _fused_scores(logits: Tensor, targets: Tensor, with_entropy: bool) -> tuple[Tensor, ...]:
    log_normalizer = logits.logsumexp(-1)
    nll = log_normalizer - logits.gather(-1, targets[:, None])[:, 0]
    if not with_entropy:
        return nll, log_normalizer
    probabilities = (logits - log_normalizer[:, None]).exp()
    expected = (probabilities * logits.clamp(min=torch.finfo(logits.dtype).min)).sum(-1)
    return nll, log_normalizer, log_normalizer - expected


def _fused_gradient_(
    logits: Tensor,
    log_normalizer: Tensor,
    targets: Tensor,
    d_nll: Tensor,
    d_log_normalizer: Tensor,
    dtype: torch.dtype,
    with_sum: bool,
) -> tuple[Tensor, Tensor | None]:
    softmax = (logits - log_normalizer[:, None]).exp()
    is_target = torch.arange(logits.shape[1], device=logits.device) == targets[:, None]
    d_logits = softmax * (d_nll + d_log_normalizer)[:, None] - torch.where(is_target, d_nll[:, None], 0.0)
    summed = d_logits.sum(0) if with_sum else None
    if dtype != logits.dtype:
        return d_logits.to(dtype), summed
    return logits.copy_(d_logits), summed


@cache
def compiled_scores() -> Callable[..., Any]:
    """:func:`scores`, compiled on its first call."""
    return torch.compile(_fused_scores)


@cache
def compiled_gradient() -> Callable[..., Any]:
    """:func:`gradient_`, compiled on its first call."""
    return torch.compile(_fused_gradient_)
