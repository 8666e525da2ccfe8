"""RHO-1, selective language modelling (arXiv:2404.07965).

The paper ranks the tokens "within the batch" (its eq. 4). Where an optimizer step is split over devices and accumulated
micro-batches, that has three readings, which ``scope`` names:

``"step"``
    The batch is the optimizer step. Which tokens are kept depends on the rows of the step alone, not on how they are
    split. The weights are known only when every NLL is, so the policy makes a first pass, without gradient or dropout,
    over all micro-batches of the step: one more forward pass, as a live reference is. The reference is asked once.
``"batch"``
    The batch is one micro-batch on all ranks: ``data.batch_size`` x ranks rows. The choice depends on the accumulation:
    with 8 devices, 4 rows and 16 micro-batches, tokens compete within 32 rows, and an easy micro-batch keeps the same
    share as a hard one. It costs a second computation of the logits.
``"row"``
    Each row by itself, so that the choice depends on neither and costs nothing more; every row keeps the same share.

Two splits of a step round differently, so "the same" is meant up to excess losses that are equal within that rounding.
"""

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
        scope: which tokens are ranked together: those of an optimizer step ("step"), of a micro-batch on all ranks
            ("batch"), or of each row ("row"). Only "batch" depends on how a step is split; "step" takes one more
            forward pass. See :mod:`remit_lit.weighting.rho1`.
    """

    needs_reference: ClassVar[bool] = True

    def __init__(self, keep: float = 0.6, scope: Literal["batch", "row", "step"] = "batch") -> None:
        require_range("Rho1.keep", keep, 0.0, 1.0)
        if scope not in ("batch", "row", "step"):
            raise ConfigError(f"Rho1.scope: got {scope!r}; give 'batch', 'row' or 'step'")
        self.keep, self.scope = keep, scope

    def weights(self, signals: TokenSignals) -> Tensor:
        """1 for kept and neutral tokens, 0 elsewhere, float32 [batch, time].

        Raises:
            ConfigError: no reference.
            NonFiniteError: a NaN or infinite reference score, naming the row.
        """
        shape = signals.mask.shape if self.scope == "row" else (1, -1)
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
