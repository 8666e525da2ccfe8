"""Switch Distillation: tokens that the teacher is sure of are distilled, all others learn from the data alone.

"Knowledge Distillation During Mid-Training Favors Reasoning over Factual Recall" (arXiv:2609.01532; the authors' code,
which is what this follows: github.com/facebookresearch/midtraining-distillation)::

    switched = H(teacher) <= quantile(H(teacher), share)
    loss = mean of the cross-entropy over all others + mean of T^2 KL(student || teacher) over the switched
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from remit_lit.losses import token_nll
from remit_lit.reference.reference import HiddenStates


class Shares(NamedTuple):
    """What each token's loss is multiplied with.

    Attributes:
        own: of its cross-entropy, a number or [batch, time].
        taught: of its divergence from the teacher.
    """

    own: float | Tensor
    taught: float | Tensor


def num_switched(counted: int, share: float) -> int:
    """How many of ``counted`` tokens are at or below the quantile ``share`` of their values, which all differ."""
    return min(math.floor(share * (counted - 1)) + 1, counted)


def switch_shares(entropy: Tensor, mask: Tensor, counted: int, share: float, alpha: float) -> Shares:
    """The shares of a micro-batch whose ``share`` of tokens with the teacher's lowest entropies are distilled.

    Both parts are means over their own tokens, weighed ``1 - alpha`` and ``alpha``; as published they are added up,
    which is twice what an alpha of 0.5 gives. Of equal entropies the earlier token is switched.

    Args:
        entropy: of the teacher, nats, [batch, time].
        mask: True where a token counts, [batch, time].
        counted: how many do.
        share: in (0, 1].
        alpha: of the distilled part in the loss.
    """
    order = entropy.masked_fill(~mask, torch.inf).flatten().argsort(stable=True)
    number = num_switched(counted, share)
    switched = torch.zeros_like(mask).flatten().index_fill(0, order[:number], True).view(mask.shape) & mask
    others = (mask & ~switched).float() * (counted / max(counted - number, 1))
    return Shares((1 - alpha) * others, alpha * switched.float() * (counted / max(number, 1)))


def teacher_entropy(states: HiddenStates, targets: Tensor, temperature: float) -> Tensor:
    """Of the teacher's distribution at a temperature, nats, [batch, time]; a chunk of logits at a time."""
    hidden, (weight, bias) = states
    with torch.no_grad():
        cooled = None if bias is None else bias / temperature
        entropy: Tensor = token_nll(hidden / temperature, weight, targets, bias=cooled, return_entropy=True)[1]
    return entropy
