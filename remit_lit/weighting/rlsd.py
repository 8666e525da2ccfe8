"""RLSD's clipped evidence ratio (arXiv:2604.03128), as a weight of given text."""

from typing import ClassVar

import torch
from torch import Tensor

from remit_lit.errors import require_range
from remit_lit.weighting.base import TokenSignals, TokenWeighting


class RLSD(TokenWeighting):
    """``w[t] = clip(p_reference(x_t) / p_policy(x_t), 1 - epsilon, 1 + epsilon)``, a constant of the loss.

    The paper scales each token's advantage ``A`` in its own rollouts so, with the ratio to the power of ``sign(A)``
    (eqs. 13 to 15), and a teacher that is the policy with the answer before its eyes. Ours: it is applied to the
    corpus, where every token is to be learnt, so that the sign is 1; the teacher is the reference; and there is no
    interpolation with weights of 1 over the first steps. Unlike ReMiT's ratio it is not centred.

    Args:
        epsilon: half-width of the clip, in (0, 1].
    """

    needs_reference: ClassVar[bool] = True

    def __init__(self, epsilon: float = 0.2) -> None:
        require_range("RLSD.epsilon", epsilon, 0.0, 1.0)
        self.epsilon = epsilon

    @property
    def bounds(self) -> tuple[float, float]:
        return 1 - self.epsilon, 1 + self.epsilon

    def weights(self, signals: TokenSignals) -> Tensor:
        """Weights within the clip, 1 for neutral and 0 for uncounted tokens, at least float32 [batch, time].

        Raises:
            ConfigError: no reference.
            NonFiniteError: a NaN or infinite reference score, naming the row.
        """
        return signals.settle(torch.exp(signals.excess_loss()).clamp(*self.bounds))
