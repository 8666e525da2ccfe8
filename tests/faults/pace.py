"""A run that is slow enough to be hit at a chosen moment, or that hangs at one."""

import time
from typing import Any

import lightning.pytorch as pl


class Pace(pl.Callback):
    """Sleep a while in each micro-batch; on one rank, after one of them, for ever.

    Args:
        seconds: of each micro-batch.
        hang_rank: the rank that hangs; null for none.
        hang_batch: the micro-batch at whose start it hangs.
    """

    def __init__(self, seconds: float = 0.0, hang_rank: int | None = None, hang_batch: int = 5) -> None:
        self.seconds, self.hang_rank, self.hang_batch = seconds, hang_rank, hang_batch

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        time.sleep(self.seconds)
        if trainer.global_rank == self.hang_rank and batch_idx == self.hang_batch:
            time.sleep(3600)
