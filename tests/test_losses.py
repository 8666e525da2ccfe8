import math
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from remit_lit.losses import IGNORE_INDEX, token_nll, weighted_nll
from tests.helpers import Largest

BATCH, TIME, DIM, VOCAB = 5, 7, 12, 19
# One token, pieces of a row, exactly a row, between one and two rows, some rows, everything, the default.
CHUNKS = [1, 3, TIME, TIME + 1, 2 * TIME + 3, 1000, None]

chunked = pytest.mark.parametrize("chunk_tokens", CHUNKS)
with_bias = pytest.mark.parametrize("has_bias", [False, True], ids=["plain", "bias"])


class Case(NamedTuple):
    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    targets: Tensor
    weights: Tensor

    @property
    def inputs(self) -> list[Tensor]:
        return [v for v in (self.hidden, self.weight, self.bias) if v is not None]

    def to(self, dtype: torch.dtype) -> "Case":
        hidden, weight, bias = (
            None if v is None else v.detach().to(dtype).requires_grad_() for v in (self.hidden, self.weight, self.bias)
        )
        assert hidden is not None and weight is not None
        return Case(hidden, weight, bias, self.targets, self.weights.to(dtype))


def make_case(seed: int = 0, *, bias: bool = False, dtype: torch.dtype = torch.float32) -> Case:
    """Random hidden states; some targets are ignored, one row wholly."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    targets = torch.randint(VOCAB, (BATCH, TIME), generator=generator)
    targets[torch.rand(BATCH, TIME, generator=generator) < 0.25] = IGNORE_INDEX
    targets[2] = IGNORE_INDEX
    weights = torch.rand(BATCH, TIME, generator=generator, dtype=torch.float64).to(dtype) * 2
    return Case(normal(BATCH, TIME, DIM), normal(VOCAB, DIM), normal(VOCAB) if bias else None, targets, weights)


def full_logits(case: Case, ignore_index: int = IGNORE_INDEX) -> tuple[Tensor, Tensor]:
    """NLL and log-normaliser by way of all logits, in float64 if the logits are, else in float32."""
    logits = torch.nn.functional.linear(case.hidden, case.weight, case.bias)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    counted = case.targets != ignore_index
    nll = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), case.targets.flatten(), ignore_index=ignore_index, reduction="none"
    )
    return nll.view(BATCH, TIME), logits.logsumexp(-1) * counted


def assert_near(found: Tensor, expected: Tensor, relative: float = 1e-6) -> None:
    """The norm of the difference is at most ``relative`` of the norm of what is expected."""
    assert found.shape == expected.shape
    difference = (found.double() - expected.double()).norm().item()
    assert difference <= relative * expected.double().norm().item()


def constant(weights: Tensor) -> Any:
    return lambda rows, nll: weights[rows]


@chunked
@with_bias
def test_token_nll_equals_full_logits(chunk_tokens, has_bias):
    case = make_case(bias=has_bias)
    exact = case.to(torch.float64)
    nll, log_normalizer = token_nll(
        *case[:2], case.targets, bias=case.bias, chunk_tokens=chunk_tokens, return_log_normalizer=True
    )
    expected = full_logits(exact)
    assert nll.dtype == log_normalizer.dtype == torch.float32
    assert_near(nll, expected[0])
    assert_near(log_normalizer, expected[1])
    upstream = torch.randn(2, BATCH, TIME, generator=torch.Generator().manual_seed(5))
    found = torch.autograd.grad((upstream[0] * nll + upstream[1] * log_normalizer).sum(), case.inputs)
    wanted = torch.autograd.grad(
        (upstream[0].double() * expected[0] + upstream[1].double() * expected[1]).sum(), exact.inputs
    )
    for gradient, other in zip(found, wanted, strict=True):
        assert_near(gradient, other)


@chunked
@with_bias
@pytest.mark.parametrize("z_loss", [0.0, 0.1])
def test_weighted_nll_equals_full_logits(chunk_tokens, has_bias, z_loss):
    case = make_case(bias=has_bias)
    exact = case.to(torch.float64)
    total, nll = weighted_nll(
        *case[:2], case.targets, constant(case.weights), bias=case.bias, z_loss=z_loss, chunk_tokens=chunk_tokens
    )
    expected_nll, log_normalizer = full_logits(exact)
    expected = (exact.weights * expected_nll).sum() + z_loss * (log_normalizer**2).sum()  # 0 where ignored
    assert_near(nll, expected_nll)
    assert_near(total, expected)
    assert nll.dtype == torch.float32 and not nll.requires_grad
    # What follows the loss (division, scaling) reaches the gradients.
    found = torch.autograd.grad(3 * total, case.inputs)
    for gradient, other in zip(found, torch.autograd.grad(3 * expected, exact.inputs), strict=True):
        assert_near(gradient, other)


@chunked
def test_weighted_nll_weighs_each_row_once_and_whole(chunk_tokens):
    case = make_case()
    seen: list[int] = []

    def weigh(rows: slice, nll: Tensor) -> Tensor:
        seen.extend(range(rows.start, rows.stop))
        assert_near(nll.double(), full_logits(case.to(torch.float64))[0][rows])
        return nll / nll.sum(1, keepdim=True).clamp(min=1)

    total, nll = weighted_nll(*case[:2], case.targets, weigh, chunk_tokens=chunk_tokens)
    assert seen == list(range(BATCH))
    assert_near(total, (nll.square().sum(1) / nll.sum(1).clamp(min=1)).sum())


def test_weighted_nll_takes_the_weights_as_constants():
    case = make_case()
    exact = case.to(torch.float64)
    total, _ = weighted_nll(*case[:2], case.targets, lambda rows, nll: nll)
    nll, _ = full_logits(exact)
    found = torch.autograd.grad(total, case.inputs)
    for gradient, other in zip(found, torch.autograd.grad((nll.detach() * nll).sum(), exact.inputs), strict=True):
        assert_near(gradient, other)


@pytest.mark.parametrize("chunk_tokens", [3, None])
def test_gradcheck(chunk_tokens):
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias, weights = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((2, 4, 2), (5, 2), (5,), (2, 4))
    )
    targets = torch.tensor([[0, 4, IGNORE_INDEX, 2], [3, IGNORE_INDEX, 1, 1]])
    inputs = [value.requires_grad_() for value in (hidden, weight, bias)]

    def scores(hidden: Tensor, weight: Tensor, bias: Tensor) -> Any:
        options: dict[str, Any] = {"bias": bias, "chunk_tokens": chunk_tokens}
        return token_nll(hidden, weight, targets, return_log_normalizer=True, **options)

    def weighted(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        options: dict[str, Any] = {"bias": bias, "z_loss": 0.1, "chunk_tokens": chunk_tokens}
        return weighted_nll(hidden, weight, targets, constant(weights), **options)[0]

    assert torch.autograd.gradcheck(scores, inputs)
    assert torch.autograd.gradcheck(weighted, inputs)


@pytest.mark.parametrize("ignore_index", [IGNORE_INDEX, -1, 0, VOCAB - 1, VOCAB + 1000])
def test_ignored_targets_have_no_loss_and_no_gradient(ignore_index):
    case = make_case()
    targets = case.targets.masked_fill(case.targets == IGNORE_INDEX, ignore_index)
    case = case._replace(targets=targets)
    ignored = targets == ignore_index
    expected, _ = full_logits(case, ignore_index)
    nll = token_nll(*case[:2], targets, ignore_index=ignore_index)
    total, other_nll = weighted_nll(
        *case[:2], targets, constant(torch.ones(BATCH, TIME)), ignore_index=ignore_index, z_loss=0.1
    )
    for found in (nll, other_nll):
        assert not found[ignored].any()
        assert_near(found, expected)
    for loss in (nll.sum(), total):
        (gradient,) = torch.autograd.grad(loss, case.hidden)
        assert not gradient[ignored].any() and gradient[~ignored].all()


@pytest.mark.parametrize("chunk_tokens", [3, None])
def test_a_batch_without_targets_has_no_loss_and_no_gradient(chunk_tokens):
    case = make_case(bias=True)
    targets = torch.full_like(case.targets, IGNORE_INDEX)
    total, nll = weighted_nll(*case[:2], targets, constant(case.weights), bias=case.bias, chunk_tokens=chunk_tokens)
    for loss in (total, token_nll(*case[:2], targets, bias=case.bias, chunk_tokens=chunk_tokens).sum()):
        assert loss == 0
        for gradient in torch.autograd.grad(loss, case.inputs):
            assert not gradient.any()
    assert not nll.any()


@pytest.mark.parametrize("way", ["autocast", "bfloat16", "float16"])
@pytest.mark.parametrize("chunk_tokens", [3, TIME, None])
@with_bias
def test_half_precision_equals_full_float32_logits_of_the_rounded_operands(way, chunk_tokens, has_bias):
    case = make_case(bias=has_bias)
    if way != "autocast":
        case = case.to(getattr(torch, way))
    weights = case.weights.float()
    half = torch.float16 if way == "float16" else torch.bfloat16
    hidden, weight, bias = (None if v is None else v.to(half).float() for v in case[:3])
    assert hidden is not None and weight is not None
    expected_nll, log_normalizer = full_logits(case._replace(hidden=hidden, weight=weight, bias=bias))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=way == "autocast"):
        expected = (weights * expected_nll).sum() + 0.1 * (log_normalizer**2).sum()
        options: dict[str, Any] = {"bias": case.bias, "chunk_tokens": chunk_tokens}
        total, nll = weighted_nll(*case[:2], case.targets, constant(weights), z_loss=0.1, **options)
        two_pass_nll, z = token_nll(*case[:2], case.targets, return_log_normalizer=True, **options)
        two_pass = (weights * two_pass_nll).sum() + 0.1 * (z**2).sum()
    unit = torch.finfo(half).eps
    wanted = torch.autograd.grad(expected, case.inputs)
    for loss, scores in ((total, nll), (two_pass, two_pass_nll)):
        assert loss.dtype == scores.dtype == torch.float32
        assert_near(scores, expected_nll)
        assert_near(loss, expected)
        for gradient, other, value in zip(torch.autograd.grad(loss, case.inputs), wanted, case.inputs, strict=True):
            assert gradient.dtype == value.dtype
            assert_near(gradient, other, relative=unit)


@pytest.mark.parametrize("way", ["autocast", "bfloat16"])
@with_bias
def test_half_precision_gives_nlls_good_to_two_thousandths_of_a_nat(way, has_bias):
    generator = torch.Generator().manual_seed(0)
    vocab, dim = 4096, 64
    hidden, weight, bias = (torch.randn(shape, generator=generator) for shape in ((2, 64, dim), (vocab, dim), (vocab,)))
    weight *= 0.6  # logits of a standard deviation of 5, as a trained model's
    exact = [value.bfloat16().double() for value in (hidden, weight, bias)]
    targets = torch.randint(vocab, (2, 64), generator=generator)
    logits = torch.nn.functional.linear(exact[0], exact[1], exact[2] if has_bias else None)
    expected = logits.logsumexp(-1) - logits.gather(-1, targets[..., None])[..., 0]
    if way == "bfloat16":
        hidden, weight, bias = (value.bfloat16() for value in (hidden, weight, bias))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=way == "autocast"):
        options: dict[str, Any] = {"bias": bias if has_bias else None}
        one_pass = weighted_nll(hidden, weight, targets, lambda rows, nll: torch.ones_like(nll), **options)[1]
        for nll in (one_pass, token_nll(hidden, weight, targets, **options)):
            assert (nll.double() - expected).abs().max() <= 0.002


def test_small_gradients_of_many_chunks_are_not_lost_in_half_precision():
    # Each token adds half its hidden state: 256 and then 64 times 0.5, which bfloat16 would round away.
    hidden = torch.tensor([[[512.0], *[[1.0]] * 64]], dtype=torch.bfloat16)
    weight = torch.zeros(2, 1, dtype=torch.bfloat16).requires_grad_()
    targets = torch.zeros(1, 65, dtype=torch.long)
    token_nll(hidden, weight, targets, chunk_tokens=1).sum().backward()
    assert weight.grad is not None
    assert weight.grad.flatten().tolist() == [-288.0, 288.0]


def test_extreme_logits_stay_finite():
    hidden = torch.tensor([[[1e4], [-1e4]]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    targets = torch.tensor([[0, 0]])
    total, nll = weighted_nll(hidden, weight, targets, lambda rows, nll: torch.ones_like(nll))
    assert nll.tolist() == token_nll(hidden, weight, targets).tolist() == [[0.0, 2e4]]
    gradients = torch.autograd.grad(total, [hidden, weight])
    assert [g.flatten().tolist() for g in gradients] == [[0.0, -2.0], [1e4, -1e4]]


def test_uniform_logits_have_the_entropy_of_the_vocabulary():
    nll = token_nll(torch.zeros(1, 3, DIM), torch.randn(VOCAB, DIM), torch.tensor([[0, 5, 18]]))
    torch.testing.assert_close(nll, torch.full((1, 3), math.log(VOCAB)), rtol=1e-6, atol=0)


def test_without_gradients_the_values_are_the_same():
    case = make_case(bias=True)
    options: dict[str, Any] = {"bias": case.bias, "z_loss": 0.1}
    total, nll = weighted_nll(*case[:2], case.targets, constant(case.weights), **options)
    with torch.no_grad():
        quiet_total, quiet_nll = weighted_nll(*case[:2], case.targets, constant(case.weights), **options)
        quiet_scores = token_nll(*case[:2], case.targets, bias=case.bias)
    assert not quiet_total.requires_grad and not quiet_scores.requires_grad
    assert torch.equal(quiet_total, total) and torch.equal(quiet_nll, nll)
    assert torch.equal(quiet_scores, token_nll(*case[:2], case.targets, bias=case.bias))


def test_a_second_backward_gives_the_same_gradients():
    case = make_case(bias=True)
    total, _ = weighted_nll(*case[:2], case.targets, constant(case.weights), bias=case.bias)
    scores = token_nll(*case[:2], case.targets, bias=case.bias)
    for loss in (total / 7, (case.weights * scores).sum()):
        first = torch.autograd.grad(loss, case.inputs, retain_graph=True)
        copies = [gradient.clone() for gradient in first]
        for gradient in first:
            gradient.zero_()
        for again, copy in zip(torch.autograd.grad(loss, case.inputs), copies, strict=True):
            assert torch.equal(again, copy)


@pytest.mark.parametrize("chunk_tokens", [10, 60])
def test_no_more_logits_exist_than_a_chunk(chunk_tokens):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(8, 30, 4, generator=generator, requires_grad=True)
    weight = torch.randn(500, 4, generator=generator, requires_grad=True)
    targets = torch.randint(500, (8, 30), generator=generator)
    for one_pass in (True, False):
        with Largest() as largest:
            if one_pass:
                loss, _ = weighted_nll(
                    hidden, weight, targets, lambda rows, nll: torch.ones_like(nll), chunk_tokens=chunk_tokens
                )
            else:
                loss = token_nll(hidden, weight, targets, chunk_tokens=chunk_tokens).sum()
            loss.backward()
        assert largest.elements == chunk_tokens * 500


def test_entropies_are_those_of_full_logits_and_change_nothing_else():
    for chunk_tokens in CHUNKS:
        case = make_case(1, bias=True, dtype=torch.float64)
        counted = case.targets != IGNORE_INDEX
        shares = torch.nn.functional.linear(case.hidden, case.weight, case.bias).softmax(-1)
        expected = torch.special.entr(shares).sum(-1) * counted
        options: dict[str, Any] = {"bias": case.bias, "chunk_tokens": chunk_tokens}
        head = case.hidden, case.weight, case.targets
        nll, log_normalizer, entropy = token_nll(*head, **options, return_log_normalizer=True, return_entropy=True)
        assert not entropy.requires_grad
        torch.testing.assert_close(entropy, expected, rtol=0, atol=1e-12)
        known = token_nll(*head, **options, return_log_normalizer=True)
        assert torch.equal(nll, known[0]) and torch.equal(log_normalizer, known[1])
        gradients = [torch.autograd.grad((case.weights * v).sum(), case.inputs) for v in (nll, known[0])]
        assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))

        seen: list[Tensor] = []

        def weigh(rows: slice, nll: Tensor, *entropy: Tensor, case: Case = case, seen: list[Tensor] = seen) -> Tensor:
            seen.extend(entropy)
            return case.weights[rows]

        asked = weighted_nll(*head, weigh, **options, with_entropy=True)
        torch.testing.assert_close(torch.cat(seen), expected.detach(), rtol=0, atol=1e-12)
        assert torch.equal(asked[0], weighted_nll(*head, weigh, **options)[0])


def test_a_token_that_cannot_come_adds_nothing_to_the_entropy():
    hidden, weight = torch.ones(1, 2, 1), torch.zeros(4, 1)
    bias = torch.tensor([0.0, 0.0, -torch.inf, -torch.inf])
    _, entropy = token_nll(hidden, weight, torch.zeros(1, 2, dtype=torch.long), bias=bias, return_entropy=True)
    torch.testing.assert_close(entropy, torch.full((1, 2), math.log(2)))
