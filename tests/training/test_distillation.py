import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from remit_lit.errors import ConfigError
from remit_lit.models.loss_head import hidden_states, loss_head
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import LiveReference
from remit_lit.training.distillation import Distillation, distillation_sum
from remit_lit.training.objective import weighted_loss
from remit_lit.weighting import NextTokenPrediction, ReMiT, Rho1
from tests.helpers import fit, get_batch, save_model

BATCH, TIME = 3, 6
NO_NEUTRAL = torch.zeros(0, dtype=torch.long)


def slow_divergence(student: Tensor, teacher: Tensor, weights: Tensor, temperature: float) -> float:
    """Weighted sum of cross-entropies, from logits [batch, time, vocab], as loops over floats."""
    vocab = min(student.shape[-1], teacher.shape[-1])
    total = 0.0
    for place in weights.nonzero().tolist():
        s = [value / temperature for value in student[tuple(place)].tolist()[:vocab]]
        t = [value / temperature for value in teacher[tuple(place)].tolist()[:vocab]]
        s_normalizer = math.log(math.fsum(math.exp(value) for value in s))
        t_sum = math.fsum(math.exp(value) for value in t)
        divergence = math.fsum(math.exp(b) / t_sum * (s_normalizer - a) for a, b in zip(s, t, strict=True))
        total += weights[tuple(place)].item() * divergence
    return temperature**2 * total


class Outputs(NamedTuple):
    """Last hidden states of a model, and its output embedding."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None

    @property
    def inputs(self) -> list[Tensor]:
        return [value for value in self if value is not None]

    def logits(self) -> Tensor:
        bias = None if self.bias is None else self.bias.double()
        return torch.nn.functional.linear(self.hidden.double(), self.weight.double(), bias)


def make(seed: int, vocab: int, dim: int, bias: bool) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    shapes: list[tuple[int, ...]] = [(BATCH, TIME, dim), (vocab, dim), (vocab,)]
    hidden, weight, last = (torch.randn(s, generator=generator).requires_grad_() for s in shapes)
    return Outputs(hidden, weight, last if bias else None)


def divergence_sum(student: Outputs, teacher: Outputs, weights: Tensor, settings: Distillation) -> Tensor:
    return distillation_sum(student.hidden, student[1:], teacher.hidden, teacher[1:], weights, settings)


def make_weights() -> Tensor:
    weights = 0.5 + torch.arange(BATCH * TIME).view(BATCH, TIME) % 5
    weights[0, 2:4] = weights[1] = 0
    return weights


@pytest.mark.parametrize(("student_vocab", "teacher_vocab"), [(11, 11), (11, 16), (16, 11)])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("chunk_tokens", [1, 5, 1024])
@pytest.mark.parametrize("bias", [False, True])
def test_value_and_gradient_equal_full_logits(student_vocab, teacher_vocab, temperature, chunk_tokens, bias):
    student, teacher = make(0, student_vocab, 4, bias), make(1, teacher_vocab, 7, bias)
    weights = make_weights()

    settings = Distillation(temperature=temperature, chunk_tokens=chunk_tokens)
    found = divergence_sum(student, teacher, weights, settings)
    logits, other = student.logits(), teacher.logits().detach()
    assert found.item() == pytest.approx(slow_divergence(logits, other, weights, temperature), rel=1e-6)

    vocab = min(student_vocab, teacher_vocab)
    target = (other[..., :vocab] / temperature).softmax(-1)
    log_probabilities = (logits[..., :vocab] / temperature).log_softmax(-1)
    expected = -(temperature**2) * (weights * (target * log_probabilities).sum(-1)).sum()
    gradients = torch.autograd.grad(found, student.inputs)
    for gradient, wanted in zip(gradients, torch.autograd.grad(expected, student.inputs), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-6)


def slow_reverse_kl(student: list[float], teacher: list[float]) -> float:
    return math.fsum(s * math.log(s / t) for s, t in zip(student, teacher, strict=True))


def slow_jensen_shannon(student: list[float], teacher: list[float]) -> float:
    mixture = [(s + t) / 2 for s, t in zip(student, teacher, strict=True)]
    return (slow_reverse_kl(student, mixture) + slow_reverse_kl(teacher, mixture)) / 2


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("chunk_tokens", [5, 1024])
@pytest.mark.parametrize(
    ("divergence", "slow"), [("reverse_kl", slow_reverse_kl), ("jensen_shannon", slow_jensen_shannon)]
)
def test_other_divergences_equal_sums_over_the_vocabulary(divergence, slow, temperature, chunk_tokens):
    student, teacher = make(0, 11, 4, True), make(1, 16, 7, True)
    weights = make_weights()
    settings = Distillation(temperature=temperature, chunk_tokens=chunk_tokens, divergence=divergence)
    found = divergence_sum(student, teacher, weights, settings)
    shares = [(o.logits()[..., :11].detach() / temperature).softmax(-1) for o in (student, teacher)]
    expected = math.fsum(
        weights[tuple(place)].item() * slow(*(share[tuple(place)].tolist() for share in shares))
        for place in weights.nonzero().tolist()
    )
    assert found.item() == pytest.approx(temperature**2 * expected, rel=1e-5)


@pytest.mark.parametrize("divergence", ["reverse_kl", "jensen_shannon"])
def test_of_other_divergences_a_teacher_that_agrees_leaves_nothing(divergence):
    student, weights = make(0, 11, 4, False), make_weights()
    teacher = Outputs(student.hidden.detach(), student.weight.detach(), None)
    total = divergence_sum(student, teacher, weights, Distillation(divergence=divergence))
    assert abs(total.item()) < 1e-5
    (gradient,) = torch.autograd.grad(total, student.hidden)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-5)


def test_an_unknown_divergence_is_refused():
    with pytest.raises(ConfigError, match=r"model\.distillation\.divergence: got 'kl'; give one of forward_kl"):
        Distillation(divergence="kl")  # type: ignore[arg-type]


def test_the_gradient_of_a_hot_distribution_is_as_large_as_that_of_matching_logits():
    """Hinton et al. 2015, section 2.1: for high temperatures it is (student - teacher) / vocab, for centred logits."""
    vocab = 8
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(1, 1, vocab, generator=generator) for _ in range(2))
    student, teacher = (v - v.mean() for v in (student, teacher))
    hidden, identity = student.clone().requires_grad_(), torch.eye(vocab)
    total = distillation_sum(
        hidden, (identity, None), teacher, (identity, None), torch.ones(1, 1), Distillation(1, 1e3)
    )
    (gradient,) = torch.autograd.grad(total, hidden)
    torch.testing.assert_close(gradient, (student - teacher) / vocab, rtol=0, atol=1e-3)


def test_the_teacher_receives_no_gradient():
    student, teacher = make(0, 11, 4, True), make(1, 11, 7, True)
    total = divergence_sum(student, teacher, make_weights(), Distillation())
    gradients = torch.autograd.grad(total, teacher.inputs, allow_unused=True)
    assert [gradient is None for gradient in gradients] == [True, True, True]


def test_no_weighed_token_gives_nothing():
    student, teacher = make(0, 11, 4, False), make(1, 11, 7, False)
    total = divergence_sum(student, teacher, torch.zeros(BATCH, TIME), Distillation())
    (gradient,) = torch.autograd.grad(total, student.hidden)
    assert total == 0 and not gradient.any()


def test_a_teacher_that_agrees_leaves_its_entropy_and_no_gradient():
    student, weights = make(0, 11, 4, False), make_weights()
    teacher = Outputs(student.hidden.detach(), student.weight.detach(), None)
    total = divergence_sum(student, teacher, weights, Distillation())
    entropies = torch.special.entr((student.hidden @ student.weight.T).softmax(-1)).sum(-1)
    assert total.item() == pytest.approx((weights * entropies).sum().item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(total, student.hidden)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"),
    [*(("alpha", v) for v in (0.0, -0.1, 1.5, math.nan)), *(("temperature", v) for v in (0.0, -1.0, math.nan))],
)
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(ConfigError, match=rf"^model\.distillation\.{field}: got"):
        Distillation(**{field: value})


def slow_alpha(schedule: str, start: float, final: float, step: int, steps: int) -> float:
    """By a walk over the run: equal steps along a line, or along the angle of half a circle."""
    share, angle = start, 0.0
    for _ in range(step):
        if schedule == "linear":
            share += (final - start) / steps
        if schedule == "cosine":
            angle += math.pi / steps
            share = (start + final) / 2 + (start - final) / 2 * math.cos(angle)
    return share


@pytest.mark.parametrize(("start", "final"), [(0.0, 1.0), (0.9, 0.0), (0.25, 0.75), (0.5, 0.5)])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_alpha_goes_from_its_start_to_its_end(schedule, start, final):
    settings = Distillation(start, alpha_schedule=schedule, final_alpha=final)
    for step in range(9):
        assert settings.alpha_at(step / 8) == pytest.approx(slow_alpha(schedule, start, final, step, 8), abs=1e-12)
    assert {Distillation(start or 0.1).alpha_at(step / 8) for step in range(9)} == {start or 0.1}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"alpha_schedule": "linear"}, "final_alpha: missing, and alpha_schedule is linear"),
        ({"final_alpha": 0.3}, "final_alpha: got 0.3, and alpha_schedule is constant; give linear or cosine"),
        ({"alpha_schedule": "cosine", "final_alpha": 1.5}, "final_alpha: got 1.5"),
        ({"alpha_schedule": "cosine", "final_alpha": math.nan}, "final_alpha: got nan"),
        ({"alpha_schedule": "cosine", "final_alpha": 0.5, "alpha": -0.1}, "alpha: got -0.1"),
        ({"alpha_schedule": "cosine", "final_alpha": 0.0, "alpha": 0.0}, "final_alpha: got 0, and alpha is 0 too"),
        ({"alpha_schedule": "cosin", "final_alpha": 0.5}, "alpha_schedule: got 'cosin'; did you mean cosine?"),
    ],
)
def test_schedules_of_alpha_that_cannot_be_are_refused(given, message):
    with pytest.raises(ConfigError) as raised:
        Distillation(**given)
    assert str(raised.value).startswith(f"model.distillation.{message}")


def test_a_run_follows_the_schedule_of_alpha(tiny_rows, tiny_policy_dir, tiny_reference_dir, tmp_path):
    """Between the losses of its rows at alpha 0 and at alpha 1, by the share of the steps that are done."""

    def losses(name, **distillation):
        reference = LiveReference(ModelSpec(str(tiny_reference_dir)))
        settings = Distillation(**distillation)
        # Steps that move nothing, so that each loss is that of the same weights.
        options = {"reference": reference, "distillation": settings, "learning_rate": 0.0}
        return fit(tiny_rows, tiny_policy_dir, tmp_path / name, steps=4, **options).losses

    taught = losses("taught", alpha=1.0)
    mixed = losses("mixed", alpha=0.0, alpha_schedule="linear", final_alpha=1.0)
    plain = fit(tiny_rows, tiny_policy_dir, tmp_path / "plain", steps=4, learning_rate=0.0).losses
    for step in range(4):
        expected = (1 - step / 4) * plain[step] + step / 4 * taught[step]
        assert mixed[step] == pytest.approx(expected, rel=1e-5)


@pytest.fixture
def batch(tiny_rows_split):
    return get_batch(tiny_rows_split, range(4))


@pytest.mark.parametrize("alpha", [0.3, 1.0])
@pytest.mark.parametrize("teacher_vocab", [32, 40])
@pytest.mark.parametrize("weighting", [NextTokenPrediction(), ReMiT(), Rho1()], ids=["ntp", "remit", "rho1"])
def test_the_objective_mixes_both_losses(tiny_policy_dir, tmp_path, batch, weighting, alpha, teacher_vocab):
    teacher = LiveReference(ModelSpec(str(save_model(tmp_path, 3, vocab_size=teacher_vocab))))
    teacher.load(ModelSpec(str(tiny_policy_dir)), torch.device("cpu"))
    policy = ModelSpec(str(tiny_policy_dir)).load()
    settings = Distillation(alpha, temperature=2.0, chunk_tokens=64)
    loss = weighted_loss(
        policy,
        batch,
        weighting,
        neutral_ids=NO_NEUTRAL,
        reference_nll=teacher.nll(batch),
        z_loss=0.01,
        distillation=settings,
        teacher=teacher,
    )
    logits, targets = policy(**batch.inputs, use_cache=False).logits, batch.targets
    with torch.no_grad():
        other = teacher.model(**batch.inputs, use_cache=False).logits[..., :32]
    nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    divergence = -((other / 2).softmax(-1) * (logits / 2).log_softmax(-1)).sum(-1)
    tokens = loss.weights.sum() if isinstance(weighting, Rho1) else (targets != -100).sum()
    expected = (loss.weights * ((1 - alpha) * nll + alpha * 2.0**2 * divergence)).sum() / tokens
    expected = expected + 0.01 * logits.logsumexp(-1)[targets != -100].square().mean()
    found = loss.total / loss.normalizer
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    parameters = list(policy.parameters())
    gradients = torch.autograd.grad(found, parameters, retain_graph=True)
    for gradient, wanted in zip(gradients, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)
    assert all(p.grad is None and not p.requires_grad for p in teacher.model.parameters())


def test_under_autocast_the_loss_is_that_of_the_logits_in_bfloat16(tiny_policy_dir, tiny_reference_dir, batch):
    policy, teacher = (ModelSpec(str(path)).load() for path in (tiny_policy_dir, tiny_reference_dir))
    head, other_head = loss_head(policy), loss_head(teacher)
    counted = batch.mask
    with torch.autocast("cpu", dtype=torch.bfloat16):
        student, frozen = hidden_states(policy, batch.inputs), hidden_states(teacher, batch.inputs).detach()
        found = distillation_sum(
            student, (head.weight, None), frozen, (other_head.weight, None), counted.float(), Distillation()
        )
        logits, other = head(student), other_head(frozen)
    assert logits.dtype == torch.bfloat16
    expected = -(other.float().softmax(-1) * logits.float().log_softmax(-1)).sum(-1)[counted].sum()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
