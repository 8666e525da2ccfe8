"""Tokens are kept by the value at risk of the policy's loss or entropy."""

import pytest
import torch

from remit_lit.errors import ConfigError
from remit_lit.weighting import ESLM
from tests.weighting import slow


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("risk", ["loss", "entropy"])
@pytest.mark.parametrize("scope", ["row", "batch"])
@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
def test_weights_equal_those_of_loops(alpha, risk, scope, ties):
    signals = slow.random_signals(3, ties=ties)
    weighting = ESLM(alpha, risk, scope)
    weights = weighting.weights(signals)
    assert weights.tolist() == slow.eslm(signals, alpha=alpha, risk=risk, scope=scope)
    assert weighting.normalizer(weights, signals.mask) == weights.sum()


def test_only_the_entropy_is_asked_for_where_it_is_the_risk():
    assert (ESLM().signals, ESLM(risk="entropy").signals) == ((), ("policy_entropy",))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0.0}, r"ESLM\.alpha: got 0\.0"),
        ({"risk": "nll"}, r"ESLM\.risk: got 'nll'; give 'loss' or 'entropy'"),
        ({"scope": "all"}, r"ESLM\.scope: got 'all'"),
    ],
    ids=["alpha", "risk", "scope"],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ESLM(**settings)


def test_the_loss_as_risk_gives_the_conditional_value_at_risk():
    """Rockafellar and Uryasev (2000): the mean of the worst share is the least value of t + E[(x - t)+] / share."""
    signals = slow.random_signals(0)
    losses = signals.policy_nll[signals.ranked].double()
    kept = ESLM(alpha=1 - 10 / len(losses)).weights(signals)[signals.ranked].bool()
    share = kept.double().mean()
    bound = min((t + (losses - t).clamp(min=0).mean() / share).item() for t in losses)
    assert losses[kept].mean().item() == pytest.approx(bound, rel=1e-9)
    assert torch.equal(losses[kept].sort().values, losses.sort().values[-int(kept.sum()) :])
