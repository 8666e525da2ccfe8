"""The losses compiled, against the same losses as they are."""

import shutil
from typing import Any

import pytest
import torch
from torch import Tensor

from remit_lit.losses import IGNORE_INDEX, token_nll, weighted_nll

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler for inductor"),
]
BATCH, TIME, DIM, VOCAB = 3, 7, 8, 37


def inputs(dtype: torch.dtype, bias: bool) -> tuple[list[Tensor], Tensor]:
    """Hidden states, output embedding and bias, and targets of which some are ignored."""
    generator = torch.Generator().manual_seed(0)
    shapes: list[tuple[int, ...]] = [(BATCH, TIME, DIM), (VOCAB, DIM), *([(VOCAB,)] if bias else [])]
    found = [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]
    targets = torch.randint(0, VOCAB, (BATCH, TIME), generator=generator)
    targets[0, 2:4] = targets[2] = IGNORE_INDEX
    return found, targets


def one_pass(values: list[Tensor], targets: Tensor, **options: Any) -> dict[str, Tensor]:
    entropies: list[Tensor] = []

    def weigh(rows: slice, nll: Tensor, entropy: Tensor) -> Tensor:
        entropies.append(entropy)
        return 2 * torch.sigmoid(nll - 3)

    hidden, weight, *bias = values
    settings: dict[str, Any] = {"bias": bias[0] if bias else None, "z_loss": 1e-2, "with_entropy": True}
    total, nll = weighted_nll(hidden, weight, targets, weigh, chunk_tokens=4, **settings, **options)
    return {"total": total, "nll": nll, "entropy": torch.cat(entropies), **gradients(total, values)}


def recomputed(values: list[Tensor], targets: Tensor, **options: Any) -> dict[str, Tensor]:
    hidden, weight, *bias = values
    asked: dict[str, Any] = {"return_log_normalizer": True, "return_entropy": True, "chunk_tokens": 4}
    nll, normalizer, entropy = token_nll(hidden, weight, targets, bias=bias[0] if bias else None, **asked, **options)
    total = (nll * torch.arange(TIME)).sum() + 1e-2 * normalizer.square().sum()
    return {"nll": nll, "normalizer": normalizer, "entropy": entropy, **gradients(total, values)}


def gradients(total: Tensor, values: list[Tensor]) -> dict[str, Tensor]:
    names = ("d_hidden", "d_weight", "d_bias")
    return dict(zip(names, torch.autograd.grad(total, values), strict=False))


@pytest.mark.parametrize("loss", [one_pass, recomputed])
@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_compiled_losses_and_gradients_are_those_of_the_eager_ones(loss, bias, dtype):
    values, targets = inputs(dtype, bias)
    eager, compiled = loss(values, targets), loss(values, targets, compiled=True)
    for name, expected in eager.items():
        assert compiled[name].dtype == expected.dtype and expected.abs().max() > 0
        # An entropy is a difference of logits, which reach 10; a gradient may round to the next bfloat16.
        bound = 2**-7 if expected.dtype == torch.bfloat16 else 1e-6
        size = 10.0 if name == "entropy" else expected.abs().max().item()
        torch.testing.assert_close(compiled[name], expected, rtol=bound, atol=bound * size)
