from dataclasses import replace
from itertools import product

import pytest
import torch

from remit_lit.errors import ConfigError
from remit_lit.weighting import NextTokenPrediction, ReMiT
from tests.weighting import slow

SETTINGS = [
    {"center": center, "clip": clip, "slope": slope, "epsilon": epsilon}
    for center, (clip, epsilon), slope in product(
        ("row", "segment", "none", "standardized"),
        ((True, 0.2), (True, 0.5), (True, 1.0), (False, 0.2)),
        (0.3, 1.0, 3.0),
    )
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(str(v) for v in s.values()))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_follow_the_formula(settings, dtype):
    for seed in range(3):
        signals = slow.random_signals(seed, dtype=dtype)
        weights = ReMiT(**settings).weights(signals)
        assert weights.dtype == torch.float32
        torch.testing.assert_close(
            weights.double(), torch.tensor(slow.remit(signals, **settings)).double(), rtol=0, atol=2e-6
        )


@pytest.mark.parametrize("center", ["row", "segment", "none", "standardized"])
def test_the_references_loss_alone_leaves_the_policy_out(center):
    signals = slow.random_signals(0)
    weights = ReMiT(center=center, delta="reference").weights(signals)
    expected = torch.tensor(slow.remit(signals, center=center, delta="reference"))
    torch.testing.assert_close(weights, expected, rtol=0, atol=2e-6)
    other = replace(signals, policy_nll=slow.random_signals(1).policy_nll)
    assert torch.equal(ReMiT(center=center, delta="reference").weights(other), weights)
    assert not torch.equal(ReMiT(center=center).weights(other), ReMiT(center=center).weights(signals))


def test_standardized_weights_do_not_depend_on_the_unit_and_equal_tokens_weigh_one():
    signals = slow.random_signals(0)
    doubled = replace(signals, policy_nll=3 * signals.policy_nll, reference_nll=3 * signals.reference_nll)
    strategy = ReMiT(center="standardized", clip=False)
    torch.testing.assert_close(strategy.weights(doubled), strategy.weights(signals), rtol=0, atol=2e-6)
    equal = replace(signals, policy_nll=signals.reference_nll + 0.1)
    assert torch.equal(strategy.weights(equal), signals.mask.float())


@pytest.mark.parametrize("center", ["row", "none"])
def test_needs_neither_neutral_tokens_nor_documents(center):
    signals = replace(slow.random_signals(0), neutral=None, segment_ids=None)
    expected = torch.tensor(slow.remit(signals, center=center))
    torch.testing.assert_close(ReMiT(center=center).weights(signals), expected, rtol=0, atol=2e-6)


def test_documents_are_centred_apart_by_segment_only():
    signals = slow.random_signals(0)
    nll = torch.where(signals.segment_ids == 1, signals.policy_nll + 5, signals.policy_nll)
    shifted = replace(signals, policy_nll=nll)
    alone = ReMiT(center="segment", clip=False)
    torch.testing.assert_close(alone.weights(shifted), alone.weights(signals), rtol=0, atol=2e-6)
    together = ReMiT(center="row", clip=False)
    assert (together.weights(shifted) - together.weights(signals)).abs().max() > 0.1


@pytest.mark.parametrize("center", ["row", "segment", "none"])
@pytest.mark.parametrize("clip", [True, False])
def test_agreeing_models_give_next_token_prediction(center, clip):
    signals = slow.random_signals(0)
    agreeing = replace(signals, reference_nll=signals.policy_nll)
    assert torch.equal(ReMiT(center=center, clip=clip).weights(agreeing), NextTokenPrediction().weights(signals))


def test_tokens_that_the_reference_finds_easier_weigh_more():
    signals = slow.random_signals(0)
    weights = ReMiT(clip=False).weights(signals)
    row = signals.ranked[0]
    excess = (signals.policy_nll - signals.reference_nll)[0]
    assert torch.equal(weights[0][row].argsort(), excess[row].argsort())


def test_divides_by_the_counted_tokens():
    signals = slow.random_signals(0)
    strategy = ReMiT()
    assert strategy.normalizer(strategy.weights(signals), signals.mask) == sum(map(sum, signals.mask.tolist()))


def test_bounds_are_those_of_the_clip():
    assert ReMiT(epsilon=0.25).bounds == (0.75, 1.25)
    assert ReMiT(clip=False).bounds is None
    weights = ReMiT(epsilon=0.25).weights(slow.random_signals(0))
    assert (weights[weights > 0].min().item(), weights.max().item()) == (0.75, 1.25)


def test_only_undetached_weights_have_a_gradient():
    signals = slow.random_signals(0)
    nll = signals.policy_nll.clone().requires_grad_()
    weights = ReMiT(detach=False, clip=False).weights(replace(signals, policy_nll=nll))
    (gradient,) = torch.autograd.grad(weights[0].square().sum(), nll)
    assert gradient[0][signals.ranked[0]].abs().max() > 0.01
    assert gradient[~signals.ranked].abs().max() == 0 and gradient[1:].abs().max() == 0


@pytest.mark.parametrize("detached", [True, False])
def test_segments_without_documents_are_refused(detached):
    with pytest.raises(ConfigError, match=r"ReMiT\.center.*segment_ids"):
        ReMiT(center="segment", detach=detached).weights(replace(slow.random_signals(0), segment_ids=None))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("epsilon", value) for value in (0.0, -0.2, 1.01, float("nan"))),
        *(("slope", value) for value in (0.0, -1.0, float("nan"), float("inf"))),
        *(("center", value) for value in ("document", "", None)),
        *(("delta", value) for value in ("policy", None)),
    ],
)
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(ConfigError, match=rf"ReMiT\.{field}: got {value!r}"):
        ReMiT(**{field: value})
