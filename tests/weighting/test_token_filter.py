"""Tokens that a column labels are left out of the loss."""

from dataclasses import replace

import pytest
import torch

from remit_lit.errors import ConfigError
from remit_lit.weighting import TokenFilter
from tests.weighting import slow


@pytest.mark.parametrize("threshold", [1.0, 3.0, 7.0])
@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
def test_weights_equal_those_of_loops(threshold, ties):
    signals = slow.random_signals(9, ties=ties)
    signals = replace(signals, columns={"medical": signals.reference_nll}, reference_nll=None)
    weighting = TokenFilter("medical", threshold)
    weights = weighting.weights(signals)
    assert weighting.columns == ("medical",) and not weighting.needs_reference
    assert weights.tolist() == slow.token_filter(signals, column="medical", threshold=threshold)
    assert (
        weighting.normalizer(weights, signals.mask)
        == torch.tensor(slow.token_filter(signals, column="medical", threshold=threshold)).sum()
    )


def test_a_threshold_that_is_no_number_is_refused():
    with pytest.raises(ConfigError, match=r"TokenFilter\.threshold: got nan"):
        TokenFilter(threshold=float("nan"))
