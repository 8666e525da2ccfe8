"""The loss of a batch, by both of its paths, against that of whole logits."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from remit_lit.models.spec import ModelSpec
from remit_lit.training.objective import weighted_loss
from remit_lit.weighting import NextTokenPrediction, ReMiT, Rho1, TokenSignals, TokenWeighting
from tests.helpers import get_batch, save_model
from tests.training.plain import assert_same, gradients_of, live, logits_of, nll_of
from tests.weighting import slow
from tests.weighting.custom_strategy import HardTokens

NEUTRAL = torch.tensor([0, 1])


class Declared(TokenWeighting):
    """Another strategy, said to have this scope."""

    def __init__(self, strategy: TokenWeighting, scope: Any) -> None:
        self.strategy, self.scope, self.detach = strategy, scope, strategy.detach

    def weights(self, signals: TokenSignals) -> Tensor:
        return self.strategy.weights(signals)

    def normalizer(self, weights: Tensor, mask: Tensor) -> Tensor:
        return self.strategy.normalizer(weights, mask)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("z_loss", [0.0, 0.01])
@pytest.mark.parametrize(
    "weighting",
    [NextTokenPrediction(), ReMiT(), ReMiT(center="segment"), Rho1(scope="row"), Rho1()],
    ids=["ntp", "remit", "remit-segment", "rho1-row", "rho1"],
)
def test_the_loss_equals_full_logits(tiny_rows_split, tiny_reference_dir, tmp_path, tied, z_loss, weighting):
    directory = save_model(tmp_path, 4, tie_word_embeddings=tied)
    policy, plain = ModelSpec(str(directory)).load(), AutoModelForCausalLM.from_pretrained(directory)
    batch, reference_nll = get_batch(tiny_rows_split, range(5)), None
    reference_nll = live(tiny_reference_dir).nll(batch)
    loss = weighted_loss(policy, batch, weighting, neutral_ids=NEUTRAL, reference_nll=reference_nll, z_loss=z_loss)
    nll, mask = nll_of(plain, batch), batch.mask
    signals = TokenSignals(nll.detach(), mask, reference_nll, batch.segment_ids, batch.targets <= 1)
    if isinstance(weighting, ReMiT):
        weights = torch.tensor(slow.remit(signals, center=weighting.center))
    else:
        is_rho1 = isinstance(weighting, Rho1)
        weights = torch.tensor(slow.rho1(signals, scope=weighting.scope) if is_rho1 else slow.ntp(signals))
    normalizer = weights.sum() if isinstance(weighting, Rho1) else mask.sum()
    squared = logits_of(plain, batch).logsumexp(-1)[mask] ** 2
    expected = (weights * nll).sum() / normalizer + z_loss * squared.mean()
    assert loss.normalizer == normalizer
    torch.testing.assert_close(loss.weights, weights, rtol=0, atol=2e-6)
    torch.testing.assert_close(loss.nll, nll.detach(), rtol=1e-5, atol=1e-6)
    found = loss.total / loss.normalizer
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    found.backward()
    expected.backward()
    assert not loss.nll.requires_grad and not loss.weights.requires_grad
    assert_same(gradients_of(policy), gradients_of(plain))


@pytest.mark.parametrize("z_loss", [0.0, 0.01])
@pytest.mark.parametrize(
    "weighting",
    [NextTokenPrediction(), ReMiT(), ReMiT(center="segment", clip=False), Rho1(scope="row"), HardTokens()],
    ids=["ntp", "remit", "remit-segment", "rho1-row", "custom"],
)
def test_both_paths_of_the_loss_agree(tiny_rows_split, tiny_policy_dir, tiny_reference_dir, z_loss, weighting):
    policy, batch = ModelSpec(str(tiny_policy_dir)).load(), get_batch(tiny_rows_split, range(5))
    reference_nll = live(tiny_reference_dir).nll(batch)
    results = []
    for strategy in (Declared(weighting, "row"), Declared(weighting, "batch")):
        loss = weighted_loss(policy, batch, strategy, neutral_ids=NEUTRAL, reference_nll=reference_nll, z_loss=z_loss)
        gradients = torch.autograd.grad(loss.total / loss.normalizer, list(policy.parameters()))
        results.append((loss, gradients))
    (one, first), (two, second) = results
    torch.testing.assert_close(one.total, two.total, rtol=1e-6, atol=0)
    assert torch.equal(one.nll, two.nll) and torch.equal(one.weights, two.weights) and one.normalizer == two.normalizer
    for gradient, other in zip(first, second, strict=True):
        torch.testing.assert_close(gradient, other, rtol=0, atol=1e-6)


def test_undetached_weights_send_gradients(tiny_rows_split, tiny_policy_dir, tiny_reference_dir):
    batch = get_batch(tiny_rows_split, range(5))
    reference_nll, mask = live(tiny_reference_dir).nll(batch), batch.mask
    gradients = {}
    for detach in (True, False):
        policy = ModelSpec(str(tiny_policy_dir)).load()
        weighting = ReMiT(epsilon=0.6, slope=0.7, detach=detach)
        loss = weighted_loss(policy, batch, weighting, neutral_ids=NEUTRAL, reference_nll=reference_nll)
        assert not loss.weights.requires_grad
        (loss.total / loss.normalizer).backward()
        gradients[detach] = gradients_of(policy)

        plain = AutoModelForCausalLM.from_pretrained(tiny_policy_dir)
        nll, ranked = nll_of(plain, batch), mask & (batch.targets > 1)
        delta = (nll.detach() if detach else nll) - reference_nll
        mean = (delta * ranked).sum(1, keepdim=True) / ranked.sum(1, keepdim=True)
        weights = (2 / (1 + torch.exp(-0.7 * (delta - mean)))).clamp(0.4, 1.6)
        ((torch.where(ranked, weights, 1.0) * nll)[mask].sum() / mask.sum()).backward()
        assert_same(gradients[detach], gradients_of(plain))
    assert max((gradients[True][n] - gradients[False][n]).abs().max() for n in gradients[True]) > 1e-3


@pytest.mark.parametrize("scope", ["row", "batch", "step"])
def test_z_loss_counts_every_target_once_whatever_is_dropped(
    tiny_rows_split, tiny_policy_dir, tiny_reference_dir, scope
):
    """The gradients of keeping a tenth differ from those of keeping all by what the NLLs make of it alone."""
    batch = get_batch(tiny_rows_split, range(5))
    reference_nll = live(tiny_reference_dir).nll(batch)
    found = []
    for z_loss in (0.0, 0.5):
        policy = ModelSpec(str(tiny_policy_dir)).load()
        loss = weighted_loss(
            policy, batch, Rho1(0.1, scope), neutral_ids=NEUTRAL, reference_nll=reference_nll, z_loss=z_loss
        )
        (loss.total / loss.normalizer).backward()
        found.append(gradients_of(policy))
    plain = AutoModelForCausalLM.from_pretrained(tiny_policy_dir)
    (0.5 * logits_of(plain, batch).logsumexp(-1)[batch.mask].square().mean()).backward()
    assert_same({name: found[1][name] - found[0][name] for name in found[0]}, gradients_of(plain), atol=2e-6)
