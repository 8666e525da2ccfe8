"""A planted effect: weights from the truth, which only the lab knows."""

import torch
from torch import Tensor

from remit_lit.errors import ConfigError, require_range
from remit_lit.lab.task import TokenKind, kinds_within
from remit_lit.lab.tokenizer import lab_vocabulary
from remit_lit.weighting import TokenSignals, TokenWeighting

_CHARACTERS = {index: character for character, index in lab_vocabulary().items()}
_NO_TARGET = " "  # no character of the lab


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
        planted: dict[TokenKind | None, float] = {
            TokenKind.CORRECT_RESULT: 1 + self.strength,
            TokenKind.WRONG_RESULT: 1 - self.strength,
        }
        rows = ["".join(_CHARACTERS.get(target, _NO_TARGET) for target in row) for row in signals.targets.tolist()]
        weights = [[planted.get(kind, 1.0) for kind in kinds_within(row)] for row in rows]
        return signals.settle(torch.tensor(weights, dtype=torch.float32, device=signals.mask.device))
