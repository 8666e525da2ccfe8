"""ReMiT: RL-guided mid-training (arXiv:2602.03075)."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from remit_lit.errors import ConfigError, require_range
from remit_lit.weighting.base import TokenSignals, TokenWeighting

_EQUAL = 1e-5  # nats


class ReMiT(TokenWeighting):
    """``w[t] = clip(2 * sigmoid(slope * c[t]), 1 - epsilon, 1 + epsilon)``, with ``c`` the centred excess loss.

    ``delta[t] = log p_RL(x_t) - log p_policy(x_t) = policy_nll[t] - reference_nll[t]`` and
    ``c[t] = delta[t] - mean(delta)`` over the tokens of the sequence. Where the models agree, ``w = 1`` and the
    objective is next-token prediction.

    Args:
        epsilon: half-width of the clip, in (0, 1]; the paper's is 0.2 (section 5.1). Raise it to weigh more strongly.
        slope: factor inside the sigmoid, per nat, > 0; the paper's is 1 (eq. 5).
        center: over what the mean of eq. 4 is taken. The paper does not say whether a "sequence" is the packed row
            ("row", our assumption) or the document ("segment"); "none" is the ablation without centring.
            "standardized" also divides by the row's standard deviation, so that the clip cuts every row alike (ours).
        clip: False leaves the weights in (0, 2): the ablation without clipping.
        detach: weights are constants of the loss, without which the paper's eqs. 14 and 20 do not hold. False is the
            ablation that differentiates them.
        delta: what is centred: "excess", the paper's discrepancy to the policy (eq. 3), or "reference", the reference's
            log-likelihood alone, the control that leaves the policy out (ours).
    """

    needs_reference: ClassVar[bool] = True

    def __init__(
        self,
        epsilon: float = 0.2,
        slope: float = 1.0,
        center: Literal["row", "segment", "none", "standardized"] = "row",
        clip: bool = True,
        detach: bool = True,
        delta: Literal["excess", "reference"] = "excess",
    ) -> None:
        require_range("ReMiT.epsilon", epsilon, 0.0, 1.0)
        require_range("ReMiT.slope", slope, 0.0, float("inf"))
        if center not in ("row", "segment", "none", "standardized"):
            raise ConfigError(f"ReMiT.center: got {center!r}; give 'row', 'segment', 'none' or 'standardized'")
        if delta not in ("excess", "reference"):
            raise ConfigError(f"ReMiT.delta: got {delta!r}; give 'excess' or 'reference'")
        self.epsilon, self.slope, self.center, self.clip, self.detach = epsilon, slope, center, clip, detach
        self.delta = delta

    @property
    def bounds(self) -> tuple[float, float] | None:
        return (1 - self.epsilon, 1 + self.epsilon) if self.clip else None

    def weights(self, signals: TokenSignals) -> Tensor:
        """Weights in (0, 2), 1 for neutral and 0 for uncounted tokens, float32 [batch, time].

        Raises:
            ConfigError: no reference, or ``center="segment"`` without ``segment_ids``.
            NonFiniteError: a NaN or infinite reference score, naming the row.
        """
        weights = 2 * torch.sigmoid(self.slope * self.centered(signals))
        if self.bounds is not None:
            weights = weights.clamp(*self.bounds)
        return signals.settle(weights)

    def centered(self, signals: TokenSignals) -> Tensor:
        """``c``: nats, or with ``center="standardized"`` deviations of the row, at least float32 [batch, time].

        Raises:
            ConfigError, NonFiniteError: as :meth:`weights`.
        """
        is_excess = self.delta == "excess"
        delta = signals.excess_loss(detach=self.detach) if is_excess else signals.reference_log_likelihood()
        centered = delta - self._mean(delta, signals)
        return centered / _deviation(centered, signals.ranked) if self.center == "standardized" else centered

    def _mean(self, delta: Tensor, signals: TokenSignals) -> Tensor:
        if self.center == "none":
            return torch.zeros_like(delta[:, :1])
        ranked = signals.ranked.to(delta.dtype)
        if self.center in ("row", "standardized"):
            return (delta * ranked).sum(1, keepdim=True) / ranked.sum(1, keepdim=True).clamp(min=1)
        if signals.segment_ids is None:
            raise ConfigError("ReMiT.center: 'segment' needs segment_ids, and these rows carry no document boundaries")
        segments = signals.segment_ids.long()
        # [batch, segments]: how many there are the device knows, but never more than one for each token and a first.
        sums = delta.new_zeros(delta.shape[0], delta.shape[1] + 1)
        totals = sums.scatter_add(1, segments, delta * ranked)
        counts = sums.scatter_add(1, segments, ranked).clamp(min=1)
        return (totals / counts).gather(1, segments)


def _deviation(centered: Tensor, ranked: Tensor) -> Tensor:
    """Standard deviation of each row's ranked tokens around their mean, nats, [batch, 1]."""
    variance = (centered.square() * ranked).sum(1, keepdim=True) / ranked.sum(1, keepdim=True).clamp(min=1)
    # Tokens that differ by less than float32 resolves are equal: they weigh 1, not what their rounding says.
    return torch.where(variance > _EQUAL**2, variance, torch.inf).sqrt()
