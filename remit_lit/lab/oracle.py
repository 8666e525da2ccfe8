"""A planted effect: weights from the truth, which only the lab knows."""

import torch
from torch import Tensor

from remit_lit.errors import ConfigError, require_range
from remit_lit.lab.targets import target_kinds
from remit_lit.lab.task import TokenKind
from remit_lit.weighting import TokenSignals, TokenWeighting


class LabOracle(TokenWeighting):
    """``1 + strength`` on the correct results of traces, ``1 - strength`` on the wrong ones, 1 on all else.

    With it a table finds out how small an effect its design detects. For the lab's rows and tokenizer only; in any
    other text it finds no trace and weighs every token 1.

    Args:
        strength: in (0, 1]; 0.2 is as far as ReMiT's weights go with the paper's epsilon.
    """

    def __init__(self, strength: float = 0.2) -> None:
        require_range("LabOracle.strength", strength, 0.0, 1.0)
        self.strength = strength

    def weights(self, signals: TokenSignals) -> Tensor:
        """Weights in [0, 2], 1 for neutral and 0 for uncounted tokens, float32 [batch, time].

        Raises:
            ConfigError: the signals have no ``targets``.
        """
        if signals.targets is None:
            raise ConfigError("LabOracle: weighs tokens by what they are, and got signals without targets")
        kinds, _ = target_kinds(signals.targets)
        weights = torch.ones(kinds.shape, device=kinds.device)
        weights[kinds == TokenKind.CORRECT_RESULT] += self.strength
        weights[kinds == TokenKind.WRONG_RESULT] -= self.strength
        return signals.settle(weights)
