"""What holds for every strategy."""

from dataclasses import replace

import pytest
import torch

from remit_lit.errors import ConfigError, NonFiniteError
from remit_lit.weighting import RLSD, LongRange, MiniPLM, NextTokenPrediction, ReMiT, Rho1
from tests.weighting import slow
from tests.weighting.custom_strategy import HardTokens

COMPARING = {
    "remit": ReMiT(),
    "remit-segment": ReMiT(center="segment"),
    "remit-none": ReMiT(center="none"),
    "remit-standardized": ReMiT(center="standardized"),
    "remit-reference": ReMiT(delta="reference"),
    "remit-unclipped": ReMiT(clip=False),
    "remit-attached": ReMiT(detach=False),
    "rho1": Rho1(),
    "rho1-row": Rho1(scope="row"),
    "rho1-step": Rho1(scope="step"),
    "rlsd": RLSD(epsilon=1.0),
    "long-range": LongRange(),
}
ALL = COMPARING | {"ntp": NextTokenPrediction(), "miniplm": MiniPLM(), "custom": HardTokens()}

comparing = pytest.mark.parametrize("strategy", COMPARING.values(), ids=COMPARING)
every = pytest.mark.parametrize("strategy", ALL.values(), ids=ALL)
broken_value = pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])


@every
def test_uncounted_tokens_weigh_nothing_and_change_nothing(strategy):
    signals = slow.random_signals(0)
    weights = strategy.weights(signals)
    assert not weights[~signals.mask].any() and weights[signals.mask].any()
    other = slow.random_signals(1)
    changed = replace(
        signals,
        policy_nll=torch.where(signals.mask, signals.policy_nll, 100 * other.policy_nll),
        reference_nll=torch.where(signals.mask, signals.reference_nll, 100 * other.reference_nll),
    )
    assert torch.equal(strategy.weights(changed), weights)


@every
def test_rows_weigh_the_same_alone_where_the_scope_is_a_row(strategy):
    signals = slow.random_signals(2)
    parts = [signals.each(lambda value, row=row: value[row : row + 1]) for row in range(6)]
    alone = torch.cat([strategy.weights(part) for part in parts])
    together = strategy.weights(signals)
    if strategy.scope == "row":
        torch.testing.assert_close(alone, together, rtol=0, atol=1e-6)
    else:
        assert not torch.equal(alone, together)


@comparing
def test_neutral_tokens_weigh_one_and_do_not_move_the_others(strategy):
    signals = slow.random_signals(0)
    neutral = signals.neutral & signals.mask
    weights = strategy.weights(signals)
    assert neutral.any() and (weights[neutral] == 1).all()
    changed = replace(
        signals,
        policy_nll=torch.where(neutral, 1000.0, signals.policy_nll),
        reference_nll=torch.where(neutral, signals.reference_nll / 7, signals.reference_nll),
    )
    assert torch.equal(strategy.weights(changed), weights)
    assert not torch.equal(strategy.weights(replace(changed, neutral=None)), weights)


@every
def test_weights_are_constants(strategy):
    signals = slow.random_signals(0)
    nll = (signals.policy_nll.requires_grad_(), signals.reference_nll.requires_grad_())
    weights = strategy.weights(replace(signals, policy_nll=nll[0], reference_nll=nll[1]))
    assert weights.requires_grad is not strategy.detach
    if not strategy.detach:
        assert torch.autograd.grad(weights.sum(), nll, allow_unused=True)[1] is None


@comparing
@broken_value
def test_a_broken_reference_score_names_its_rows(strategy, value):
    signals = slow.random_signals(0)
    for row in (0, 4):
        signals.reference_nll[row, signals.mask[row].nonzero()[-1]] = value
    with pytest.raises(NonFiniteError, match=r"reference_nll.*\[0, 4\]"):
        strategy.weights(signals)


@comparing
@broken_value
def test_a_broken_reference_score_of_a_neutral_token_names_its_row(strategy, value):
    signals = slow.random_signals(0)
    signals.reference_nll[2, 5] = value
    assert signals.neutral[2, 5] and signals.mask[2, 5]
    with pytest.raises(NonFiniteError, match=r"reference_nll.*\[2\]"):
        strategy.weights(signals)


@every
@broken_value
def test_a_broken_reference_score_of_an_uncounted_token_is_ignored(strategy, value):
    signals = slow.random_signals(0)
    broken = replace(signals, reference_nll=signals.reference_nll.masked_fill(~signals.mask, value))
    assert torch.equal(strategy.weights(broken), strategy.weights(signals))


@comparing
def test_no_reference_is_refused(strategy):
    assert strategy.needs_reference
    with pytest.raises(ConfigError, match="reference"):
        strategy.weights(replace(slow.random_signals(0), reference_nll=None))


@pytest.mark.parametrize("strategy", [NextTokenPrediction(), MiniPLM()])
def test_strategies_that_do_not_compare_need_no_reference(strategy):
    signals = replace(slow.random_signals(0), reference_nll=None, segment_ids=None, neutral=None)
    assert not strategy.needs_reference
    assert torch.equal(strategy.weights(signals), signals.mask.float())
