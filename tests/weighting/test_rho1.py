from dataclasses import replace

import pytest
import torch

from remit_lit.errors import ConfigError
from remit_lit.weighting import Rho1, TokenSignals
from tests.weighting import slow


@pytest.mark.parametrize("scope", ["batch", "row", "step"])
@pytest.mark.parametrize("keep", [0.01, 0.3, 0.6, 0.7, 1.0])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_follow_the_formula(scope, keep, ties, dtype):
    for seed in range(5):
        signals = slow.random_signals(seed, dtype=dtype, ties=ties)
        weights = Rho1(keep, scope).weights(signals)
        assert weights.dtype == torch.float32
        assert weights.tolist() == slow.rho1(signals, keep=keep, scope=scope)


@pytest.mark.parametrize(
    ("scope", "kept"),
    [
        ("step", [[1, 1, 1, 1, 1], [1, 0, 0, 0, 0]]),
        ("batch", [[1, 1, 1, 1, 1], [1, 0, 0, 0, 0]]),
        ("row", [[1, 1, 1, 0, 0]] * 2),
    ],
)
def test_of_equal_tokens_the_earlier_are_kept(scope, kept):
    signals = TokenSignals(torch.ones(2, 5), torch.ones(2, 5, dtype=torch.bool), torch.zeros(2, 5))
    assert Rho1(0.6, scope).weights(signals).tolist() == kept


@pytest.mark.parametrize("scope", ["batch", "row", "step"])
def test_a_batch_without_counted_tokens_weighs_nothing(scope):
    signals = replace(slow.random_signals(0), mask=torch.zeros(6, 23, dtype=torch.bool))
    weights = Rho1(scope=scope).weights(signals)
    assert not weights.any() and Rho1().normalizer(weights, signals.mask) == 0


@pytest.mark.parametrize("scope", ["batch", "row", "step"])
def test_needs_no_neutral_tokens(scope):
    signals = replace(slow.random_signals(0), neutral=None)
    assert Rho1(scope=scope).weights(signals).tolist() == slow.rho1(signals, scope=scope)


def test_rows_are_ranked_together_in_the_batch_and_apart_by_row():
    signals = slow.random_signals(0)
    nll = signals.policy_nll.clone()
    nll[0] += 100
    easier = replace(signals, policy_nll=nll)
    assert torch.equal(Rho1(scope="row").weights(easier), Rho1(scope="row").weights(signals))
    assert Rho1(scope="batch").weights(easier)[0].sum() == signals.mask[0].sum()


@pytest.mark.parametrize("scope", ["batch", "row", "step"])
def test_divides_by_the_tokens_that_weigh(scope):
    signals = slow.random_signals(1)
    strategy = Rho1(scope=scope)
    assert strategy.normalizer(strategy.weights(signals), signals.mask) == sum(
        map(sum, slow.rho1(signals, scope=scope))
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [*(("keep", value) for value in (0.0, -0.5, 1.5, float("nan"))), ("scope", "document"), ("scope", None)],
)
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(ConfigError, match=rf"Rho1\.{field}: got {value!r}"):
        Rho1(**{field: value})
