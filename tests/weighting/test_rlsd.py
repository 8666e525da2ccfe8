"""Tokens weigh what the reference makes of them over what the policy does, within a clip."""

import pytest
import torch

from remit_lit.errors import ConfigError
from remit_lit.weighting import RLSD
from tests.weighting import slow


@pytest.mark.parametrize("epsilon", [0.2, 1.0])
@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
def test_weights_equal_those_of_loops(epsilon, ties):
    signals = slow.random_signals(7, ties=ties)
    weighting = RLSD(epsilon)
    weights = weighting.weights(signals)
    torch.testing.assert_close(weights, torch.tensor(slow.rlsd(signals, epsilon=epsilon)), rtol=0, atol=1e-5)
    assert weighting.normalizer(weights, signals.mask) == signals.mask.sum()
    assert weighting.bounds == (1 - epsilon, 1 + epsilon)


def test_an_epsilon_out_of_range_is_refused():
    with pytest.raises(ConfigError, match=r"RLSD\.epsilon: got 1\.5"):
        RLSD(1.5)
