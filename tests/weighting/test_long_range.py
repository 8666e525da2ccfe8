"""Tokens weigh by how far a short-context model is from the policy, as a share of their row."""

from dataclasses import replace

import pytest
import torch

from remit_lit.errors import ConfigError
from remit_lit.weighting import LongRange
from tests.weighting import slow


@pytest.mark.parametrize("floor", [0.0, 0.75, 1.0])
@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
def test_weights_equal_those_of_loops(floor, ties):
    signals = slow.random_signals(8, ties=ties)
    weights = LongRange(floor).weights(signals)
    torch.testing.assert_close(weights, torch.tensor(slow.long_range(signals, floor=floor)), rtol=0, atol=1e-5)


def test_ranked_tokens_of_a_row_weigh_1_on_average():
    signals = slow.random_signals(8)
    weights = LongRange().weights(signals) * signals.ranked
    counts = signals.ranked.sum(1)
    torch.testing.assert_close(weights.sum(1), counts.float(), rtol=1e-5, atol=0)
    assert weights[counts > 1].std() > 0.05


def test_a_row_that_a_short_context_says_as_well_is_left_as_it_is():
    signals = slow.random_signals(8)
    same = replace(signals, reference_nll=signals.policy_nll)
    assert torch.equal(LongRange(0.3).weights(same), signals.mask.float())


def test_a_floor_out_of_range_is_refused():
    with pytest.raises(ConfigError, match=r"LongRange\.floor: got -0\.1"):
        LongRange(-0.1)
