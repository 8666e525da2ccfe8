"""A control: ReMiT's own weights on the wrong tokens."""

import torch
from torch import Tensor

from remit_lit.weighting.base import TokenSignals
from remit_lit.weighting.remit import ReMiT


class ShuffledReMiT(ReMiT):
    """ReMiT's weights in a random order within each row, so that only *which* tokens they fall on is lost.

    What a run gains over next-token prediction with these weights comes from their spread, not from the reference.
    The order is drawn from torch's global generator, as dropout is. Arguments are those of :class:`ReMiT`.
    """

    def weights(self, signals: TokenSignals) -> Tensor:
        """As :meth:`ReMiT.weights`, permuted among the tokens of each row that are counted and not neutral."""
        weights, ranked = super().weights(signals), signals.ranked
        # Ranked tokens first, in a random order: the k-th of them takes the weight of the k-th ranked token.
        order = torch.rand(weights.shape, device=weights.device).masked_fill(~ranked, 2.0).argsort(dim=1)
        places = (~ranked).to(torch.int8).argsort(dim=1, stable=True)
        shuffled = torch.empty_like(weights).scatter(1, order, weights.gather(1, places))
        return signals.settle(shuffled)
