"""ESLM, selective language modelling by value at risk (arXiv:2505.19893)."""

from typing import Literal

import torch
from torch import Tensor

from remit_lit.errors import ConfigError, require_range
from remit_lit.weighting.base import Signal, TokenSignals, TokenWeighting


class ESLM(TokenWeighting):
    """Train on the tokens whose risk is at least its value at risk; the others weigh 0.

    The risk is the policy's own loss or entropy, so that no reference is needed. The value at risk of level ``alpha``
    is the smallest risk that a share ``alpha`` of the tokens does not exceed; with the loss as the risk, the objective
    is its conditional value at risk. The weighted losses are divided by the number of kept tokens.

    Args:
        alpha: level of the value at risk, in (0, 1]: about ``1 - alpha`` of the ranked tokens are kept, and all that
            tie with the threshold.
        risk: "loss", the token's negative log-likelihood; or "entropy", of the policy's distribution over it.
        scope: which tokens are ranked together, as in :mod:`remit_lit.weighting.rho1`: those of an optimizer step
            ("step"), of a micro-batch on all ranks ("batch"), or of each row ("row").
    """

    def __init__(
        self,
        alpha: float = 0.1,
        risk: Literal["loss", "entropy"] = "loss",
        scope: Literal["batch", "row", "step"] = "batch",
    ) -> None:
        require_range("ESLM.alpha", alpha, 0.0, 1.0)
        if risk not in ("loss", "entropy"):
            raise ConfigError(f"ESLM.risk: got {risk!r}; give 'loss' or 'entropy'")
        if scope not in ("batch", "row", "step"):
            raise ConfigError(f"ESLM.scope: got {scope!r}; give 'batch', 'row' or 'step'")
        self.alpha, self.risk, self.scope = alpha, risk, scope
        self.signals: tuple[Signal, ...] = ("policy_entropy",) if risk == "entropy" else ()

    def weights(self, signals: TokenSignals) -> Tensor:
        """1 for kept and neutral tokens, 0 elsewhere, float32 [batch, time]."""
        shape = signals.mask.shape if self.scope == "row" else (1, -1)
        known = signals.policy_entropy if self.risk == "entropy" else signals.policy_nll
        assert known is not None
        ranked = signals.ranked.reshape(shape)
        risk = known.detach().reshape(shape).masked_fill(~ranked, torch.inf)  # behind all ranked tokens when sorted
        counts = ranked.sum(1, keepdim=True)
        place = ((self.alpha * counts).ceil().long() - 1).clamp(min=0)
        threshold = risk.sort(dim=1).values.gather(1, place)
        return signals.settle((risk >= threshold).float().reshape(signals.mask.shape))

    def normalizer(self, weights: Tensor, mask: Tensor) -> Tensor:
        """The number of kept tokens."""
        return weights.sum()
