"""A scheduler's warning that the job will end: save at the step's end, and leave with an exit code of its own."""

from typing import Any

import lightning.pytorch as pl

from remit_lit.errors import Preempted
from remit_lit.runs.warning_signals import WARNINGS
from remit_lit.training.callbacks.checkpoints import Checkpoints


class Preemption(pl.Callback):
    """On SIGTERM or SIGUSR1 to any rank, write a checkpoint when the current step ends and raise ``Preempted``."""

    def __init__(self) -> None:
        self._is_saved = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        trainer._signal_connector = _NoHandlers()  # type: ignore[assignment]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        WARNINGS.is_deferred = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        WARNINGS.is_deferred = False

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        WARNINGS.is_deferred = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if not trainer.strategy.reduce_boolean_decision(WARNINGS.received is not None, all=False):
            return
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, Checkpoints):
                callback.save(trainer)
        self._is_saved = True

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._leave(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._leave(trainer)

    def _leave(self, trainer: pl.Trainer) -> None:
        # Not as soon as it is saved: the figures of that step are logged first.
        if self._is_saved:
            name = WARNINGS.received.name if WARNINGS.received else "another rank's signal"
            raise Preempted(f"step {trainer.global_step}: received {name}; --resume=true continues from here")


class _NoHandlers:
    """In the place of Lightning's, which broadcast in the midst of the collective that a signal interrupts, and under
    SLURM requeue the job and go on."""

    received_sigterm = False

    def register_signal_handlers(self) -> None:
        """Ours are there from the start of the command."""

    def teardown(self) -> None:
        """They stay until it ends."""
