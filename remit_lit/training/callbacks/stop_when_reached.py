"""Training until a figure is reached, and not for a number of steps."""

import lightning.pytorch as pl

from remit_lit.errors import ConfigError, DataError
from remit_lit.training.callbacks import mid_training


class StopWhenReached(pl.Callback):
    """End training at the first validation whose figure is at most ``at_most``; a run that never gets there fails.

    Models that shall start alike, such as the bases of a comparison, are alike in what they can do and not in their
    number of steps. The horizon is then the longest that is waited for, ``trainer.val_check_interval`` says how often
    to look, and the schedule should hold the learning rate, since it does not know where the run ends.

    Args:
        figure: a figure that validation logs and that falls, e.g. ``val/nll`` or ``lab/nll_correct_result``.
        at_most: the value to reach.

    Attributes:
        reached_at: optimizer steps when it was reached; None before.

    Raises:
        ConfigError: validation logs no such figure.
        DataError: when training ends without it, so that nothing goes on from a model that is not there yet.
    """

    def __init__(self, figure: str, at_most: float) -> None:
        self.figure, self.at_most = figure, at_most
        self.reached_at: int | None = None
        self._last: float | None = None

    def summary(self) -> list[str]:
        """A line for the end of a run."""
        return [f"{self.figure}: {self._last:.4f}, at most {self.at_most}, after {self.reached_at:,} steps"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        logged = trainer.callback_metrics
        if self.figure not in logged:
            known = ", ".join(sorted(name for name in logged if not name.startswith("train/")))
            raise ConfigError(f"StopWhenReached.figure: got {self.figure!r}; validation logs {known or 'nothing'}")
        self._last = float(logged[self.figure])
        if self._last <= self.at_most:
            self.reached_at, trainer.should_stop = trainer.global_step, True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.reached_at is not None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        got = "was never validated" if self._last is None else f"is {self._last:.4f}, above {self.at_most:g}"
        raise DataError(
            f"{trainer.default_root_dir}: after {trainer.global_step:,} steps, the horizon, {self.figure} {got}. Raise "
            f"model.horizon or StopWhenReached.at_most, or give another seed than {mid_training(pl_module).data.seed}"
        )
