"""A strategy that a user keeps in a module of their own."""

import torch
from torch import Tensor

from remit_lit.weighting import TokenSignals, TokenWeighting


class HardTokens(TokenWeighting):
    """Tokens that the policy finds harder than ``threshold`` nats weigh 2, the other counted tokens 1.

    Args:
        threshold: in nats.
    """

    def __init__(self, threshold: float = 3.0) -> None:
        self.threshold = threshold

    def weights(self, signals: TokenSignals) -> Tensor:
        return torch.where(signals.policy_nll > self.threshold, 2.0, 1.0) * signals.mask

    def normalizer(self, weights: Tensor, mask: Tensor) -> Tensor:
        return weights.sum()
