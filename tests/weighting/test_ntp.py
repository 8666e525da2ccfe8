import pytest
import torch

from remit_lit.weighting import MiniPLM, NextTokenPrediction
from tests.weighting import slow


@pytest.mark.parametrize("strategy", [NextTokenPrediction(), MiniPLM()])
def test_every_counted_token_weighs_one(strategy):
    signals = slow.random_signals(0)
    weights = strategy.weights(signals)
    assert weights.dtype == torch.float32
    assert weights.tolist() == slow.ntp(signals)
    assert strategy.normalizer(weights, signals.mask) == sum(map(sum, signals.mask.tolist()))
