"""Weights that cannot be trained with are refused in training, naming the strategy and the rows."""

from typing import Any

import pytest
import torch
from torch import Tensor

from remit_lit.errors import ConfigError
from remit_lit.weighting import TokenSignals, TokenWeighting
from tests.helpers import fit


class Wrong(TokenWeighting):
    """Weights spoilt on the first counted token of each row whose number of counted tokens is odd."""

    def __init__(self, fault: str, scope: Any = "row") -> None:
        self.fault, self.scope = fault, scope

    def weights(self, signals: TokenSignals) -> Any:
        weights = signals.mask.float()
        if self.fault == "shape":
            return weights[:, :1]
        if self.fault == "type":
            return signals.mask
        if self.fault == "list":
            return weights.tolist()
        odd = signals.mask.sum(1) % 2 == 1
        place = signals.mask if self.fault != "outside" else ~signals.mask
        value = {"nan": float("nan"), "negative": -0.5, "outside": 1.0}[self.fault]
        return torch.where(odd[:, None] & place, value, weights)


class AllNegative(TokenWeighting):
    def weights(self, signals: TokenSignals) -> Tensor:
        return -signals.mask.float()


@pytest.mark.fault("faulty weights of a strategy", "refused before the policy changes; class and rows are named")
@pytest.mark.parametrize("scope", ["row", "batch", "step"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "shape",
            r"Wrong\.weights gave the shape \[\d+, 1\] for tokens of shape \[\d+, 50\]; give one weight for each",
        ),
        ("type", r"Wrong\.weights gave torch\.bool; give torch\.float32"),
        ("list", r"Wrong\.weights gave a list; give a tensor"),
        ("nan", r"Wrong gave weights that are NaN or infinite in row\(s\) (\[[\d, ]+\]), such as nan"),
        ("negative", r"Wrong gave weights that are negative in row\(s\) (\[[\d, ]+\]), such as -0\.5"),
        ("outside", r"Wrong gave weights that are not 0 where no token counts in row\(s\) (\[[\d, ]+\]), such as 1;"),
    ],
)
def test_wrong_weights_are_refused_before_the_policy_changes(
    tiny_rows_split, tiny_policy_dir, tmp_path, scope, fault, message
):
    with pytest.raises(ConfigError, match=rf"model\.weighting: {message}") as raised:
        fit(tiny_rows_split, tiny_policy_dir, tmp_path, weighting=Wrong(fault, scope), batch_size=8, steps=1)
    if fault in ("nan", "negative", "outside"):
        named = [int(row) for row in str(raised.value).split("[")[1].split("]")[0].split(",")]
        assert 0 < len(named) < 8


def test_a_strategy_of_negative_weights_trains_no_model(tiny_rows_split, tiny_policy_dir, tmp_path):
    with pytest.raises(ConfigError, match=r"model\.weighting: AllNegative gave weights that are negative"):
        fit(tiny_rows_split, tiny_policy_dir, tmp_path, weighting=AllNegative())
