"""DFT, dynamic fine-tuning (arXiv:2508.05629)."""

import torch
from torch import Tensor

from remit_lit.weighting.base import TokenSignals, TokenWeighting


class DFT(TokenWeighting):
    """``w[t] = p_policy(x_t) = exp(-nll[t])``, a constant of the loss: what the policy finds unlikely weighs less.

    The paper rectifies supervised fine-tuning so: with these weights its gradient is that of a policy gradient whose
    reward does not grow as the token's probability falls. It reads no reference. The weighted losses are averaged over
    all counted tokens, as in the paper.
    """

    def weights(self, signals: TokenSignals) -> Tensor:
        """Weights in [0, 1], 1 for neutral and 0 for uncounted tokens, float32 [batch, time]."""
        nll = torch.where(signals.mask, signals.policy_nll.detach(), 0.0)
        return signals.settle(torch.exp(-nll.float()))
