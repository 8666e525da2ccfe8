"""How far a run is, as lines of a log, where no terminal shows a progress bar."""

import sys
import time
from datetime import timedelta
from typing import Any

import lightning.pytorch as pl

from remit_lit.errors import require_range
from remit_lit.training.callbacks import mid_training


class ProgressLines(pl.Callback):
    """Where standard output is a pipe or a file, print a line now and then, and one at each validation.

    Args:
        every_seconds: time between two lines, in seconds; raise it for runs of days. 0 prints one at every step.
    """

    def __init__(self, every_seconds: float = 30.0) -> None:
        require_range("progress_lines.every_seconds", every_seconds, 0.0, float("inf"), include_low=True)
        self.every_seconds = every_seconds
        self._begun, self._last = (0.0, 0), (0.0, 0)  # time in seconds, and step

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begun = self._last = time.perf_counter(), trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now, step = time.perf_counter(), trainer.global_step
        if step == self._last[1] or now - self._last[0] < self.every_seconds or not _prints(trainer):
            return
        module = mid_training(pl_module)
        seconds_a_step = (now - self._begun[0]) / (step - self._begun[1])
        rate = (step - self._last[1]) * module.tokens_per_step / (now - self._last[0])
        left = timedelta(seconds=round(seconds_a_step * (module.num_steps - step)))
        loss = module.step_loss
        assert loss is not None, "a step was made"
        print(
            f"step {step:,} of {module.num_steps:,}: train/loss {loss:.4f}, {rate:,.0f} tokens/s, {left} left",
            flush=True,
        )
        self._last = now, step

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != "fit" or not _prints(trainer):
            return
        names = [name for name in trainer.callback_metrics if name.startswith("val/") and name.count("/") == 1]
        figures = [f"{name} {float(trainer.callback_metrics[name]):.4f}" for name in names]
        if figures:
            when = "before training" if trainer.sanity_checking else f"step {trainer.global_step:,}"
            print(f"{when}: {', '.join(figures)}", flush=True)


def _prints(trainer: pl.Trainer) -> bool:
    return trainer.is_global_zero and not sys.stdout.isatty() and not trainer.fast_dev_run  # type: ignore[attr-defined]
