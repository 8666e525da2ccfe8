"""ZeRO in bfloat16 sums the gradients of many micro-batches as one process does that sums them in float32."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.distributed.test_engines import engine
from tests.helpers import fit, save_model
from tests.processes import Run

MICRO_BATCHES, ROWS = 16, 2
# Of one rounding to bfloat16, which has 8 bits; each gradient of a micro-batch has gone through one.
ROUNDING = 2.0**-9


class Float32Sum(pl.Callback):
    """Sums each micro-batch's gradients in float32, and leaves zeros to the optimizer."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for name, parameter in pl_module.policy.named_parameters():  # type: ignore[union-attr]
            assert parameter.grad is not None and parameter.grad.dtype == torch.bfloat16
            self.sums[name] = self.sums.get(name, 0.0) + parameter.grad.float()
            parameter.grad.zero_()


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy whose float32 weights are the bfloat16 ones that ZeRO computes with."""
    directory = save_model(tmp_path_factory.mktemp("policy"), seed=1)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    model.float().save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def expected(policy: Path, tiny_rows_split: Path, tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    """The direction of one step's gradients, flat, by one process with the same micro-batches of both ranks."""
    summed = Float32Sum()
    trainer: dict[str, Any] = {"precision": "bf16-true"}
    fit(
        tiny_rows_split,
        policy,
        tmp_path_factory.mktemp("alone"),
        steps=1,
        batch_size=ROWS,
        accumulate=2 * MICRO_BATCHES,
        callbacks=[summed],
        trainer=trainer,
    )
    return flat(summed.sums)


def flat(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten().double() for _, value in sorted(tensors.items())])


@pytest.mark.parametrize(
    "engine_name", ["zero1", *(pytest.param(name, marks=pytest.mark.slow) for name in ("zero2", "zero3"))]
)
def test_zero_in_bfloat16_accumulates_in_float32(
    engine_name: str, expected: Tensor, policy: Path, tiny_rows_split: Path, tmp_path: Path
) -> None:
    config = {
        "model": {
            "policy": {"path": str(policy)},
            "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0}},
            "horizon": {"steps": 1},
        },
        "data": {"rows": str(tiny_rows_split), "batch_size": ROWS, "num_workers": 0},
        "trainer": {
            "accelerator": "cpu",
            "devices": 2,
            "strategy": engine(engine_name),
            "precision": "bf16-mixed",
            "accumulate_grad_batches": MICRO_BATCHES,
            "limit_val_batches": 0,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
        },
    }
    run = Run(tmp_path, config).finish()
    start = AutoModelForCausalLM.from_pretrained(policy).state_dict()
    gradient = flat({name: start[name] - value for name, value in run.weights.items()})
    assert float(run.metrics[0]["train/grad_norm"]) == pytest.approx(gradient.norm().item(), rel=ROUNDING)
    # The normaliser scales both alike; what is left is how the micro-batches were summed.
    scaled = expected * (gradient.norm() / expected.norm())
    assert (gradient - scaled).norm() < ROUNDING * gradient.norm()
