"""Switch Distillation: the surest tokens of the teacher are distilled, the others learn from the data."""

import math

import pytest
import torch

from remit_lit.errors import ConfigError
from remit_lit.models.spec import ModelSpec
from remit_lit.training.distillation import Distillation
from remit_lit.training.objective import weighted_loss
from remit_lit.training.switch import num_switched, switch_shares
from remit_lit.weighting import NextTokenPrediction, ReMiT, TokenWeighting
from tests.helpers import get_batch
from tests.training.plain import live, logits_of

NO_NEUTRAL = torch.zeros(0, dtype=torch.long)


@pytest.fixture
def batch(tiny_rows_split):
    return get_batch(tiny_rows_split, range(4))


def plain_switch(student, teacher, targets, weights, share, temperature):
    """Both means as the authors' code has them, from whole logits; weights come beside."""
    counted = targets != -100
    theirs = (teacher / temperature).log_softmax(-1)
    entropy = -(theirs.exp() * theirs).sum(-1)
    switched = (entropy <= torch.quantile(entropy[counted], share)) & counted
    ours = (student / temperature).log_softmax(-1)
    reverse = (ours.exp() * (ours - theirs)).sum(-1) * temperature**2
    nll = torch.nn.functional.cross_entropy(student.transpose(1, 2), targets, reduction="none")
    return (weights * nll)[counted & ~switched].mean(), (weights * reverse)[switched].mean()


@pytest.mark.parametrize("share", [0.2, 0.7])
@pytest.mark.parametrize("weighting", [NextTokenPrediction(), ReMiT()], ids=["ntp", "remit"])
@pytest.mark.parametrize("is_counted", [True, False], ids=["counted", "uncounted"])
def test_loss_and_gradient_are_those_of_whole_logits(
    tiny_policy_dir, tiny_reference_dir, batch, weighting: TokenWeighting, share, is_counted
):
    policy, teacher = ModelSpec(str(tiny_policy_dir)).load(), live(tiny_reference_dir)
    batch.num_counted = batch.num_counted if is_counted else None
    loss = weighted_loss(
        policy,
        batch,
        weighting,
        neutral_ids=NO_NEUTRAL,
        reference_nll=teacher.nll(batch),
        distillation=Distillation(0.25, 2.0, chunk_tokens=7, divergence="reverse_kl", switch=share),
        teacher=teacher,
    )
    student = logits_of(policy, batch)
    with torch.no_grad():
        other = logits_of(teacher.model, batch)
    own, taught = plain_switch(student, other, batch.targets, loss.weights, share, 2.0)
    expected, found = 0.75 * own + 0.25 * taught, loss.total / loss.normalizer
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    parameters = list(policy.parameters())
    gradients = torch.autograd.grad(found, parameters, retain_graph=True)
    for gradient, wanted in zip(gradients, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 1.0])
def test_as_many_are_switched_as_lie_below_the_quantile(share):
    for counted in (1, 2, 5, 64):
        values = torch.arange(counted).double()
        assert num_switched(counted, share) == (values <= torch.quantile(values, share)).sum()


def test_every_counted_token_is_in_one_part_and_each_part_adds_up_to_its_share():
    entropy = torch.tensor([[0.3, 0.1, 0.0], [0.1, 2.0, 0.2]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    own, taught = switch_shares(entropy, mask, 5, 0.4, 0.3)
    assert isinstance(own, torch.Tensor) and isinstance(taught, torch.Tensor)
    # Of the two entropies of 0.1, both are among the two of five that lie lowest.
    assert (taught > 0).tolist() == [[False, True, False], [True, False, False]]
    assert (own > 0).tolist() == [[True, False, False], [False, True, True]]
    assert math.isclose(own.sum() / 5, 0.7, rel_tol=1e-6) and math.isclose(taught.sum() / 5, 0.3, rel_tol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"switch": 0.0}, r"switch: got 0\.0; give a number in \(0\.0, 1\.0\]"),
        ({"switch": 0.2, "column": "top_8"}, r"switch: got 0\.2 with a column"),
    ],
)
def test_what_cannot_be_switched_is_refused(given, message):
    with pytest.raises(ConfigError, match=rf"^model\.distillation\.{message}"):
        Distillation(**given)
