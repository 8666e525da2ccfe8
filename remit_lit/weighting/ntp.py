"""Vanilla next-token prediction: every counted token weighs 1."""

from torch import Tensor

from remit_lit.weighting.base import TokenSignals, TokenWeighting


class NextTokenPrediction(TokenWeighting):
    """``w[t] = 1``: the cross-entropy that every method is compared with."""

    def weights(self, signals: TokenSignals) -> Tensor:
        """1 where a token counts, 0 elsewhere, float32 [batch, time]."""
        return signals.mask.float()
