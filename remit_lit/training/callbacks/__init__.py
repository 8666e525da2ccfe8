"""What a run measures, records and leaves behind."""

import lightning.pytorch as pl

from remit_lit.training.module import MidTrainingModule


def mid_training(pl_module: pl.LightningModule) -> MidTrainingModule:
    """The module that these callbacks are made for."""
    assert isinstance(pl_module, MidTrainingModule), "the callbacks of remit_lit go with MidTrainingModule"
    return pl_module


def is_logging_step(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether this micro-batch is the last of a step that is logged."""
    every = getattr(trainer, "log_every_n_steps", 1) * trainer.accumulate_grad_batches
    return (batch_idx + 1) % every == 0
