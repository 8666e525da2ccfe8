"""Token weighting for long-range language modelling (arXiv:2503.09202)."""

from typing import ClassVar

import torch
from torch import Tensor

from remit_lit.errors import require_range
from remit_lit.weighting.base import TokenSignals, TokenWeighting


class LongRange(TokenWeighting):
    """Weigh a token by how much a long context changes its probability.

    ``s[t] = |log p_policy(x_t) - log p_short(x_t)|`` and ``w[t] = floor + (1 - floor) * s[t] / mean(s)``, the mean over
    the row: the dense weights of the paper, as its authors' code has them (absolute difference, L1 normalisation,
    interpolation: github.com/UKPLab/naacl2025-token-weighting). A row whose scores are all 0 has weights of 1.

    The policy reads whole rows and is the long-context model; the reference is the short-context one, which may be much
    smaller: a live model that attends to a short window, or a column of its NLLs.

    Args:
        floor: share of every token's weight that is the same for all, in [0, 1]; 1 is next-token prediction. Authors'
            code: 0.75.
    """

    needs_reference: ClassVar[bool] = True

    def __init__(self, floor: float = 0.75) -> None:
        require_range("LongRange.floor", floor, 0.0, 1.0, include_low=True)
        self.floor = floor

    def weights(self, signals: TokenSignals) -> Tensor:
        """Weights of mean 1 in each row, 1 for neutral and 0 for uncounted tokens, at least float32 [batch, time].

        Raises:
            ConfigError: no reference.
            NonFiniteError: a NaN or infinite reference score, naming the row.
        """
        score = torch.where(signals.ranked, signals.excess_loss().abs(), 0.0)
        mean = score.sum(1, keepdim=True) / signals.ranked.sum(1, keepdim=True).clamp(min=1)
        relative = torch.where(mean > 0, score / mean.clamp(min=torch.finfo(score.dtype).tiny), 1.0)
        return signals.settle(self.floor + (1 - self.floor) * relative)
