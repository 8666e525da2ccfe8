"""The end of an optimizer step, without a wait for the device between two logs where the optimizer allows it."""

from itertools import chain
from typing import Any

import lightning.pytorch as pl
import torch

from remit_lit.data.batch import Batch
from remit_lit.training.engines import ZeRO, summed
from remit_lit.training.optimization import clip_gradients, leaves_steps_out, scale_gradients
from remit_lit.training.window import Verdict, Window, is_logging_step, stop
from remit_lit.weighting import NextTokenPrediction


class OptimizerSteps(pl.LightningModule):
    """Divides, measures and clips gradients, and sees to it that a step that broke changes no weights.

    An optimizer that can leave a step out on the device (torch's with ``fused: true``) is told to by a flag there, and
    the host reads the flag with the logs, before a checkpoint or a validation, and at the end. For any other optimizer,
    and for ZeRO, it reads it before each step.

    Attributes:
        step_loss: mean loss of the last step over its positions and all ranks, in nats, on the device; None before one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.grad_norm = torch.zeros(())
        self.step_loss: torch.Tensor | None = None
        self.begin_steps(Window(0, self.device), Verdict(NextTokenPrediction(), [], self.device), 0)

    def begin_steps(self, window: Window, verdict: Verdict, positions: int) -> None:
        """Begin the first step of a run, of so many positions over all ranks and accumulated micro-batches."""
        self.window, self.verdict, self._positions = window, verdict, positions

    @property
    def _is_logged(self) -> bool:
        """Whether the step under way will be logged; to log others costs a small model a tenth of its step."""
        return (self.global_step + 1) % max(1, getattr(self.trainer, "log_every_n_steps", 1)) == 0

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the accumulated gradients by the global normaliser, which is known only now.

        Each micro-batch was divided by its number of positions, then averaged over the window and the ranks.
        """
        if not self.window.is_full:
            return
        # Of every rank, so that none waits for one that has stopped.
        total, normalizer, _ = sums = summed(self.trainer.strategy, self.window.sums)
        normalizer = torch.where(normalizer > 0, normalizer, 1.0)
        scale = self._positions / normalizer
        self.step_loss = (total / normalizer).float()
        if self._is_logged:
            self.log("train/loss", self.step_loss)
            self.log("train/learning_rate", torch.tensor(optimizer.param_groups[0]["lr"]))
        if isinstance(self.trainer.strategy, ZeRO):
            self.verdict.add(self.global_step, self.window, sums, None)
            self.verdict.read()
            self.trainer.strategy.scale_gradients(scale.item())
            return
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        scale_gradients(gradients, scale)
        self.grad_norm = torch.nn.utils.get_total_norm(gradients)
        self.verdict.add(self.global_step, self.window, sums, self.grad_norm)
        if leaves_steps_out(optimizer):
            optimizer.found_inf = self.verdict.broken  # type: ignore[attr-defined]
        else:
            self.verdict.read()
        if self._is_logged:
            self.log("train/grad_norm", self.grad_norm)
        self.window.clear()

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *limits: Any, **named: Any) -> None:
        """By the norm that is known; Lightning would compute it once more, and refuse fused optimizers. ZeRO clips."""
        if not isinstance(self.trainer.strategy, ZeRO):
            clip_gradients(optimizer, self.grad_norm, *limits, **named)

    def optimizer_step(self, epoch: int, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Only after its step does ZeRO tell the norm of the gradients, which it keeps sharded."""
        super().optimizer_step(epoch, batch_idx, *args, **kwargs)
        if isinstance(self.trainer.strategy, ZeRO) and self.window.is_full:
            norm = self.trainer.strategy.grad_norm
            if not torch.isfinite(norm):
                stop(self.global_step, "gradient norm", list(chain(*self.window.rows)), norm.item())
            self.log("train/grad_norm", norm)
            self.window.clear()
        if is_logging_step(self.trainer, batch_idx):
            self.verdict.read()

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """The bar reads what it shows after every micro-batch, so it gets the loss on the host, of logged steps."""
        if self.step_loss is not None and is_logging_step(self.trainer, batch_idx):
            self.log("loss", torch.tensor(self.step_loss.item()), prog_bar=True, logger=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Nothing is kept of a step that broke."""
        self.verdict.read()

    def on_validation_start(self) -> None:
        """No validation of a run that is to stop."""
        self.verdict.read()

    def on_train_end(self) -> None:
        """The last steps may not have been logged."""
        self.verdict.read()
