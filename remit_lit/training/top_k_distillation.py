"""Distillation from a column of the teacher's most likely tokens, with no teacher in memory."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from remit_lit.models.top_tokens import TopTokens
from remit_lit.training.distillation import DIVERGENCES, Distillation, weighed_places

# The least tail: stored log-probabilities are rounded, so that those of a sure teacher may add up to more than 1.
_LEAST_TAIL = 1e-6


def top_k_distillation_sum(
    hidden: Tensor,
    head: tuple[Tensor, Tensor | None],
    teacher: TopTokens,
    weights: Tensor,
    settings: Distillation,
    num_counted: int | None = None,
) -> Tensor:
    """Weighted sum of a divergence between what teacher and student say of ``k + 1`` events, a scalar with gradient.

    The events are the teacher's ``k`` most likely tokens, each by itself, and all others as one. Joining events never
    raises a KL (data-processing inequality), so this one is at most that of whole distributions. What is lacking is
    the tail's probability times the KL within the tail, and shrinks with each token that is added. As in
    :func:`remit_lit.training.distillation.distillation_sum`, the forward KL comes without the teacher's entropy, and
    logits of a chunk are computed again in backward.

    Args:
        hidden: of the student, [batch, time, dim].
        head: its output embedding [vocab, dim] and bias [vocab].
        teacher: its most likely tokens, [batch, time, k], k < vocab.
        weights: of the tokens, constants, [batch, time]; those of weight 0 cost nothing.
        settings: divergence and chunk size; its temperature is 1.
        num_counted: see :func:`remit_lit.training.distillation.weighed_places`.
    """
    weighed = weighed_places(weights, num_counted)
    states, weights = hidden.flatten(0, -2)[weighed], weights.flatten()[weighed]
    ids, known = (values.flatten(0, -2)[weighed] for values in teacher)  # [tokens, k]
    divergence = DIVERGENCES[settings.divergence]

    def chunk(states: Tensor, ids: Tensor, known: Tensor, weights: Tensor) -> Tensor:
        student = torch.nn.functional.linear(states, *head).float().log_softmax(-1)
        return (weights * divergence(_with_tail(known), _joined(student, ids))).sum()

    pieces = zip(*(values.split(settings.chunk_tokens) for values in (states, ids, known, weights)), strict=True)
    sums = [checkpoint(chunk, *piece, use_reentrant=False) for piece in pieces]
    return torch.stack(sums).sum() if sums else hidden.sum() * 0.0


def _with_tail(known: Tensor) -> Tensor:
    """Log-probabilities of some tokens and of all others as one, [tokens, k] to [tokens, k + 1]."""
    tail = (1 - known.exp().sum(-1, keepdim=True)).clamp(min=_LEAST_TAIL).log()
    return torch.cat([known, tail], dim=-1).log_softmax(-1)


def _joined(log_probabilities: Tensor, ids: Tensor) -> Tensor:
    """Those of some ids and of all others as one, [tokens, vocab] to [tokens, k + 1]."""
    tail = log_probabilities.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([log_probabilities.gather(-1, ids), tail], dim=-1)
