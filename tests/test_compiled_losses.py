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


def one_pass(values: list[Tensor], targets: Tensor, **options: Any) -> list[Tensor]:
    entropies: list[Tensor] = []

    def weigh(rows: slice, nll: Tensor, entropy: Tensor) -> Tensor:
        entropies.append(entropy)
        return 2 * torch.sigmoid(nll - 3)

    hidden, weight, *bias = values
    settings: dict[str, Any] = {"bias": bias[0] if bias else None, "z_loss": 1e-2, "with_entropy": True}
    total, nll = weighted_nll(hidden, weight, targets, weigh, chunk_tokens=4, **settings, **options)
    return [total, nll, *torch.autograd.grad(total, values), *entropies]


def recomputed(values: list[Tensor], targets: Tensor, **options: Any) -> list[Tensor]:
    hidden, weight, *bias = values
    asked = {"return_log_normalizer": True, "return_entropy": True, "chunk_tokens": 4}
    found = token_nll(hidden, weight, targets, bias=bias[0] if bias else None, **asked, **options)
    total = (found[0] * torch.arange(TIME)).sum() + 1e-2 * found[1].square().sum()
    return [*found, *torch.autograd.grad(total, values)]


@pytest.mark.parametrize("loss", [one_pass, recomputed])
@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_compiled_losses_and_gradients_are_those_of_the_eager_ones(loss, bias, dtype):
    values, targets = inputs(dtype, bias)
    eager, compiled = loss(values, targets), loss(values, targets, compiled=True)
    for found, expected in zip(compiled, eager, strict=True):
        assert found.dtype == expected.dtype and expected.abs().max() > 0
        # In bfloat16 a sum in another order may round to the neighbouring value.
        rtol = 1e-6 if dtype != torch.bfloat16 or found.dtype == torch.float32 else 2**-7
        torch.testing.assert_close(found, expected, rtol=rtol, atol=rtol * expected.abs().max().item())
