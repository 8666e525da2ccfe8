"""Tokens seen, tokens per second, and model FLOP/s utilisation."""

import time
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.throughput import get_available_flops

from remit_lit.errors import require_range
from remit_lit.models.flops import flops_per_token
from remit_lit.training.callbacks import mid_training
from remit_lit.training.window import is_logging_step


class Throughput(pl.Callback):
    """Log ``tokens_seen`` and ``tokens_per_second`` (over all ranks), and ``mfu`` where the device's peak is known.

    Args:
        peak_flops: peak FLOP/s of one device, for MFU. Null takes Lightning's table of GPUs; give it for a device that
            is not there (no CPU is), since no MFU is logged otherwise.
    """

    def __init__(self, peak_flops: float | None = None) -> None:
        if peak_flops is not None:
            require_range("throughput.peak_flops", peak_flops, 0.0, float("inf"))
        self.peak_flops = peak_flops
        self._since: tuple[float, int] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        dtype = torch.bfloat16 if "bf16" in str(trainer.precision) else torch.float32
        if self.peak_flops is None and pl_module.device.type == "cuda":
            self.peak_flops = get_available_flops(pl_module.device, dtype)
        self._since = time.perf_counter(), trainer.global_step

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._since = None

    def leave_out(self, seconds: float) -> None:
        """Do not count time, just passed, in which nothing was trained."""
        if self._since is not None:
            self._since = self._since[0] + seconds, self._since[1]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not is_logging_step(trainer, batch_idx):
            return
        module = mid_training(pl_module)
        now, step = time.perf_counter(), trainer.global_step
        module.log("tokens_seen", float(step * module.tokens_per_step))
        if self._since is not None and step > self._since[1]:
            rate = (step - self._since[1]) * module.tokens_per_step / (now - self._since[0])
            # A tensor of the host's: the bar reads it after every micro-batch.
            module.log("tokens_per_second", torch.tensor(rate), prog_bar=True)
            if self.peak_flops:
                assert module.policy is not None
                flops = flops_per_token(module.policy, module.data.manifest.sequence_length)
                module.log("mfu", rate * flops / (self.peak_flops * trainer.world_size))
        self._since = now, step
