"""RHO-1, selective language modelling (arXiv:2404.07965)."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from remit_lit.errors import ConfigError, require_range
from remit_lit.weighting.base import TokenSignals, TokenWeighting


class Rho1(TokenWeighting):
    """Train on the ``keep`` share of tokens with the largest excess loss; the others weigh 0.

    ``w[t] = 1 if excess[t] is in the top keep * N else 0``, divided by the number of kept tokens (paper, eq. 4).
    Of equal excess losses the earlier token is kept. At least one token is kept.

    Args:
        keep: share of ranked tokens kept, in (0, 1]. Paper: 0.6 for its 1.1B model, 0.7 for 7B.
        scope: tokens are ranked within the micro-batch ("batch", as in the paper) or within each row ("row").
    """

    needs_reference: ClassVar[bool] = True

    def __init__(self, keep: float = 0.6, scope: Literal["batch", "row"] = "batch") -> None:
        require_range("Rho1.keep", keep, 0.0, 1.0)
        if scope not in ("batch", "row"):
            raise ConfigError(f"Rho1.scope: got {scope!r}; give 'batch' or 'row'")
        self.keep, self.scope = keep, scope

    def weights(self, signals: TokenSignals) -> Tensor:
        """1 for kept and neutral tokens, 0 elsewhere, float32 [batch, time].

        Raises:
            ConfigError: no reference.
            NonFiniteError: a NaN or infinite reference score, naming the row.
        """
        shape = (1, -1) if self.scope == "batch" else signals.mask.shape
        ranked = signals.ranked.reshape(shape)
        excess = signals.excess_loss().reshape(shape).masked_fill(~ranked, -torch.inf)
        counts = ranked.sum(1, keepdim=True)
        kept = (self.keep * counts + 0.5).floor().clamp(min=1)
        order = excess.argsort(dim=1, descending=True, stable=True)
        positions = torch.arange(order.shape[1], device=order.device).expand_as(order)
        rank = torch.empty_like(order).scatter_(1, order, positions)
        return signals.settle((rank < kept).float().reshape(signals.mask.shape))

    def normalizer(self, weights: Tensor, mask: Tensor) -> Tensor:
        """The number of kept tokens."""
        return weights.sum()
