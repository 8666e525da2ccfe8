"""What a run measures, records and leaves behind."""

import lightning.pytorch as pl

from remit_lit.training.module import MidTrainingModule


def mid_training(pl_module: pl.LightningModule) -> MidTrainingModule:
    """The module that these callbacks are made for."""
    assert isinstance(pl_module, MidTrainingModule), "the callbacks of remit_lit go with MidTrainingModule"
    return pl_module
