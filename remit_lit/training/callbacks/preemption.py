"""A scheduler's warning that the job will end: save at the step's end, and leave with an exit code of its own."""

import os
import signal
from types import FrameType
from typing import Any

import lightning.pytorch as pl

from remit_lit.errors import Preempted
from remit_lit.training.callbacks.checkpoints import Checkpoints

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preemption(pl.Callback):
    """On SIGTERM or SIGUSR1 to any rank, write a checkpoint when the current step ends and raise ``Preempted``."""

    def __init__(self) -> None:
        self._received: int | None = None
        self._is_saved = False
        self._process = os.getpid()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._process = os.getpid()
        for number in _SIGNALS:
            signal.signal(number, self._receive)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._restore()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if not trainer.strategy.reduce_boolean_decision(self._received is not None, all=False):
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
            name = signal.Signals(self._received).name if self._received else "another rank's signal"
            raise Preempted(f"step {trainer.global_step}: {name} received; --ckpt_path=last goes on from here")

    def _receive(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker that was forked from this process
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._received = number

    def _restore(self) -> None:
        for number in _SIGNALS:
            if signal.getsignal(number) == self._receive:
                signal.signal(number, signal.SIG_DFL)
