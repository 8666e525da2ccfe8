"""Losses by fused kernels under Triton's interpreter, which needs no GPU and a process of its own.

``TRITON_INTERPRET=1 python -m tests.interpreted_kernels FOLDER`` prints how far they are from full logits, and the
losses of runs.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import cross_entropy

from remit_lit.losses import IGNORE_INDEX, kernel_nll
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import LiveReference
from tests.helpers import build, make_rows, save_model
from tests.test_loss_kernels import CASES, STRATEGIES

BATCH, TIME, DIM, VOCAB = 2, 9, 32, 40


@triton.jit
def _log1p(value):
    return tl.log(1.0 + value)


def interpretable() -> None:
    """Cut cross-entropy calls a function of CUDA's library, which the interpreter has not."""
    from cut_cross_entropy import tl_utils

    tl_utils.tl_log1p = _log1p


def distances(kernel: Any, dtype: torch.dtype, autocast: bool) -> dict[str, float]:
    """From NLLs and gradients of full logits in float64, relative to the largest value of each."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(s, generator=generator) / d for s, d in (((BATCH, TIME, DIM), 1), ((VOCAB, DIM), 4))]
    given = [(v if autocast else v.to(dtype)).requires_grad_() for v in values]
    exact = [v.detach().to(dtype).double().requires_grad_() for v in given]
    targets = torch.randint(0, VOCAB, (BATCH, TIME), generator=generator)
    targets[0, :3] = IGNORE_INDEX
    weights = torch.rand(BATCH, TIME, generator=generator)
    with torch.autocast("cpu", dtype, enabled=autocast):
        nll = kernel_nll(kernel, given[0], given[1], targets)
    logits = (exact[0] @ exact[1].T).transpose(1, 2)
    wanted = cross_entropy(logits, targets, ignore_index=IGNORE_INDEX, reduction="none")
    found = [nll, *torch.autograd.grad((weights * nll).sum(), given)]
    expected = [wanted, *torch.autograd.grad((weights * wanted).sum(), exact)]
    assert found[0].dtype == torch.float32 and torch.all(nll[targets == IGNORE_INDEX] == 0)
    assert [g.dtype for g in found[1:]] == [v.dtype for v in given]
    return dict(zip(("nll", "d_hidden", "d_weight"), map(_distance, found, expected), strict=True))


def _distance(found: Tensor, expected: Tensor) -> float:
    return ((found.double() - expected).abs().max() / expected.abs().max()).item()


def losses(folder: Path, name: str, kernel: str | None) -> list[float]:
    """Of two steps of a run."""
    strategy = STRATEGIES[name]()
    reference = LiveReference(ModelSpec(str(folder / "reference"))) if strategy.needs_reference else None
    options: dict[str, Any] = {"weighting": strategy, "reference": reference, "loss_kernel": kernel}
    run, data = build(folder / "rows", folder / "policy", folder / f"{name}-{kernel}", steps=2, **options)
    run.trainer.fit(run.module, datamodule=data)
    return run.losses


def main(folder: Path) -> None:
    """Print all as JSON, the last line."""
    interpretable()
    for seed, model in enumerate(("policy", "reference")):
        save_model(folder / model, seed)
    make_rows(folder / "rows", folder / "policy", 16)
    found = {
        "distances": {name: distances(*case) for name, case in CASES.items()},
        "losses": {name: [losses(folder, name, kernel) for kernel in (None, "liger")] for name in STRATEGIES},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
