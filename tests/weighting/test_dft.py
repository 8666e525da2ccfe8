"""Tokens weigh as much as the policy believes in them."""

import torch

from remit_lit.weighting import DFT
from tests.weighting import slow


def test_weights_equal_those_of_loops():
    signals = slow.random_signals(5)
    weights = DFT().weights(signals)
    torch.testing.assert_close(weights, torch.tensor(slow.dft(signals)), rtol=0, atol=1e-6)
    assert DFT().normalizer(weights, signals.mask) == signals.mask.sum()


def test_the_gradient_is_that_of_the_probability():
    """Of exp(-nll) held constant times nll, as of -p itself: -dp/dnll = p (the paper's policy gradient)."""
    signals = slow.random_signals(5)
    nll = signals.policy_nll.clone().requires_grad_()
    (DFT().weights(signals) * nll)[signals.ranked].sum().backward()
    gradient, nll.grad = nll.grad, None
    (-torch.exp(-nll))[signals.ranked].sum().backward()
    torch.testing.assert_close(gradient, nll.grad, rtol=1e-5, atol=1e-7)
