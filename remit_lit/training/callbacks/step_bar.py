"""The bar of a run on a terminal: steps, time left, and the last logged figures, on a line of 80 columns."""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks.progress.progress_bar import ProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import CustomBarColumn, RichProgressBar
from rich.progress import ProgressColumn, Task
from rich.text import Text

from remit_lit.terminal import console

_SHORT = {"loss": "loss", "val/nll": "val", "test/nll": "test", "tokens_per_second": "tok/s"}
_BESIDE_THE_BAR = 72  # columns of all else, with counts of 6 digits
_BAR = (8, 40)  # columns, at least and at most


class StepBar(RichProgressBar):
    """Lightning's bar with short names of its figures, without epochs, and with optimizer steps for micro-batches.

    Figures that other callbacks log with ``prog_bar=True`` keep their names, and may need a second line.
    """

    def configure_columns(self, trainer: pl.Trainer) -> list[ProgressColumn]:
        low, high = _BAR
        bar = CustomBarColumn(
            bar_width=min(high, max(low, console().width - _BESIDE_THE_BAR)),
            complete_style=self.theme.progress_bar,
            finished_style=self.theme.progress_bar_finished,
            pulse_style=self.theme.progress_bar_pulse,
        )
        return [_Doing(self), bar, _Done(self, trainer.accumulate_grad_batches), _Left()]

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        figures = super().get_metrics(trainer, pl_module)
        figures.pop("v_num", None)
        known = {short: _figure(name, figures.pop(name)) for name, short in _SHORT.items() if name in figures}
        return known | figures


def with_step_bar(callbacks: Sequence[pl.Callback]) -> list[pl.Callback]:
    """A run's callbacks and the bar, unless they bring one of their own."""
    given = any(isinstance(callback, ProgressBar) for callback in callbacks)
    return [*callbacks, *([] if given else [StepBar()])]


class _Doing(ProgressColumn):
    def __init__(self, bar: StepBar) -> None:
        super().__init__()
        self.bar = bar

    def render(self, task: Task) -> Text:
        return Text("train" if task.id == self.bar.train_progress_bar_id else "validate")


class _Done(ProgressColumn):
    def __init__(self, bar: StepBar, micro_batches: int) -> None:
        super().__init__()
        self.bar, self.micro_batches = bar, micro_batches

    def render(self, task: Task) -> Text:
        size = self.micro_batches if task.id == self.bar.train_progress_bar_id else 1
        return Text("/".join(f"{number // size:.0f}" for number in (task.completed, task.total or 0)))


class _Left(ProgressColumn):
    max_refresh = 0.5  # seconds

    def render(self, task: Task) -> Text:
        if task.time_remaining is None:
            return Text("-:--:--", style="dim")
        minutes, seconds = divmod(round(task.time_remaining), 60)
        return Text(f"{minutes // 60}:{minutes % 60:02}:{seconds:02}", style="dim")


def _figure(name: str, value: Any) -> str:
    number = float(value)
    if name != "tokens_per_second":
        return f"{number:.3f}"
    return f"{number / 1e6:.2f}M" if number >= 1e6 else f"{number / 1e3:.1f}k" if number >= 1e4 else f"{number:.0f}"
