"""The validation before training, in the logs: Lightning runs it first, and logs nothing of it."""

import math

import lightning.pytorch as pl


class FirstValidation(pl.Callback):
    """Log the figures of the validation before training at step 0.

    Only where it is of all rows (``trainer.num_sanity_val_steps: -1``), as the later ones are; and once: a run that
    goes on from a checkpoint has logged it.
    """

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking or trainer.global_step or not math.isinf(trainer.num_sanity_val_steps):
            return
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        for logger in trainer.loggers:
            logger.log_metrics(figures, 0)
