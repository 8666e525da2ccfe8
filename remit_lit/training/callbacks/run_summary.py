"""What a run ends with on the terminal: what was trained, losses before and after, and where the model lies."""

import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from rich.table import Table

from remit_lit.models.shards import size_of
from remit_lit.runs.folder import MODEL
from remit_lit.terminal import console
from remit_lit.training.callbacks import mid_training


class RunSummary(pl.Callback):
    """Keep the validation figures from before and after training, for :meth:`print`."""

    def __init__(self) -> None:
        self.before: dict[str, float] = {}
        self.after: dict[str, float] = {}
        self._started = self._seconds = self._compiled_before = 0.0
        self._compiling: float | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started, self._compiled_before = time.perf_counter(), _seconds_of_compilation()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        figures = {name: float(value) for name, value in trainer.callback_metrics.items() if _is_validation(name)}
        if trainer.sanity_checking:
            self.before = figures
        else:
            self.after = figures

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._seconds = time.perf_counter() - self._started
        module = mid_training(pl_module)
        if module.compile_policy or module.compile_loss:
            # Of the whole process, in which this run may not be the first.
            self._compiling = _seconds_of_compilation() - self._compiled_before

    def print(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the summary; a callback with a method ``summary() -> list[str]`` adds its lines."""
        module = mid_training(pl_module)
        assert module.policy is not None
        size, tokens = (
            sum(size_of(p).numel() for p in module.policy.parameters()),
            trainer.global_step * module.tokens_per_step,
        )
        out = console()
        out.print(
            f"{type(module.weighting).__name__} on {type(module.policy).__name__} of {size:,} parameters: "
            f"{trainer.global_step:,} steps, {tokens:,} tokens, {self._seconds:.0f} s",
            soft_wrap=True,
        )
        if self._compiling is not None:
            out.print(f"torch.compile: {self._compiling:.1f} s of it")
        if self.after:
            out.print(self._table())
        elif module.step_loss is not None:
            out.print(f"train/loss: {module.step_loss:.4f} (no validation was run)")
        if module.first_pass is not None:
            out.print(module.first_pass.summary(self._seconds))
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            for line in getattr(callback, "summary", lambda: [])():
                out.print(line)
        out.print(f"model: {Path(trainer.default_root_dir, MODEL)}")

    def _table(self) -> Table:
        table = Table("validation", "before", "after")
        for name in self.after:
            table.add_row(name, _figure(self.before.get(name)), _figure(self.after[name]))
        return table


def _seconds_of_compilation() -> float:
    """Of torch.compile in this process so far; nothing is imported where nothing was compiled."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return 0.0 if dynamo is None else float(dynamo.calculate_time_spent()["total_wall_time"])


def _is_validation(name: str) -> bool:
    return name.startswith(("val/", "lab/"))


def _figure(value: Any) -> str:
    return "" if value is None else f"{value:.4f}"
