"""A run that is slow enough to be hit at a chosen moment, or that hangs or breaks at one."""

import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import psutil
import torch


class Pace(pl.Callback):
    """Sleep a while in each micro-batch; at one of them, one rank hangs or its weights break.

    Args:
        seconds: of each micro-batch.
        hang_rank: the rank that hangs; null for none.
        break_rank: the rank whose weights become NaN; null for none.
        batch: the micro-batch at whose start that happens.
    """

    def __init__(
        self, seconds: float = 0.0, hang_rank: int | None = None, break_rank: int | None = None, batch: int = 20
    ) -> None:
        self.seconds, self.hang_rank, self.break_rank, self.batch = seconds, hang_rank, break_rank, batch

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        time.sleep(self.seconds)
        if batch_idx != self.batch:
            return
        if trainer.global_rank == self.hang_rank:
            time.sleep(3600)
        if trainer.global_rank == self.break_rank:
            with torch.no_grad():
                next(pl_module.policy.parameters()).fill_(torch.nan)


class SlowValidation(pl.Callback):
    """Sleep in each batch of a validation.

    Args:
        seconds: of each batch.
        record: file that is there once the second batch has begun.
    """

    def __init__(self, seconds: float, record: str) -> None:
        self.seconds, self.record = seconds, Path(record)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if batch_idx == 1:
            self.record.touch()
        time.sleep(self.seconds)


class Footprint(pl.Callback):
    """Write down what this process and those that load its batches hold, every so many steps.

    Args:
        record: a line for each time: step, resident bytes, open descriptors.
        every: steps.
    """

    def __init__(self, record: str, every: int) -> None:
        self.record, self.every = Path(record), every

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step % self.every:
            return
        everyone = [psutil.Process(), *psutil.Process().children(recursive=True)]
        memory = sum(process.memory_info().rss for process in everyone)
        descriptors = sum(process.num_fds() for process in everyone)
        with self.record.open("a") as stream:
            stream.write(f"{trainer.global_step} {memory} {descriptors}\n")
