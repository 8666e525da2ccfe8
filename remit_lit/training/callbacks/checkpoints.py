"""When checkpoints are written, which are kept, and what happens when the disk refuses one."""

import random
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from remit_lit.errors import ConfigError, DataError, require_at_least
from remit_lit.files import sync_files
from remit_lit.runs.checkpoint import checkpoint_path, lack_of_room, prune
from remit_lit.runs.checkpoint_io import FACTS
from remit_lit.runs.folder import CHECKPOINTS
from remit_lit.training.callbacks import mid_training
from remit_lit.training.engines import ZeRO, engine_of

_RANDOM = "random_states"
_AVERAGING = "averaging_state"  # by Lightning's WeightAveraging


class Checkpoints(Checkpoint):
    """Write checkpoints to ``run_dir/checkpoints``, each aside and then renamed, with checksums.

    Args:
        every_n_train_steps: optimizer steps from one checkpoint to the next; an interruption loses at most as many.
            Null writes one at the end only.
        at_end: write one when training ends; false saves its disk space where only the exported model is wanted.
        keep_last: how many of the newest are kept; null keeps all.
        keep_every: keep those whose step is a multiple of this too, e.g. to evaluate them later.
        if_refused: what to do when the disk is full or read-only: warn continues without that checkpoint, stop ends the
            run. Earlier checkpoints stay intact.

    Raises:
        ConfigError: a number is below 1.
    """

    def __init__(
        self,
        every_n_train_steps: int | None = None,
        at_end: bool = True,
        keep_last: int | None = 2,
        keep_every: int | None = None,
        if_refused: Literal["warn", "stop"] = "warn",
    ) -> None:
        for field, value in (
            ("every_n_train_steps", every_n_train_steps),
            ("keep_last", keep_last),
            ("keep_every", keep_every),
        ):
            require_at_least(f"checkpoint.{field}", value, 1, or_null=True)
        self.every_n_train_steps, self.at_end = every_n_train_steps, at_end
        self.keep_last, self.keep_every, self.if_refused = keep_last, keep_every, if_refused
        self._saved_step = -1
        self._random_states: dict[str, Any] | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # As late as this, since setting up a run draws random numbers too.
        if self._random_states is not None:
            _set_random_states(self._random_states)
            self._random_states = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        is_boundary = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if self.every_n_train_steps and is_boundary and step % self.every_n_train_steps == 0:
            self.save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.at_end:
            self.save(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if not trainer.should_stop:
            _reopen_epoch(checkpoint["loops"]["fit_loop"])
        checkpoint[_RANDOM] = _random_states()
        checkpoint[FACTS] = {
            "step": trainer.global_step,
            "engine": engine_of(trainer.strategy),
            "ranks": trainer.world_size,
            "tokens_per_step": mid_training(pl_module).tokens_per_step,
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Raise ConfigError for a checkpoint whose weights are an average, where the config makes none."""
        averages = any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks)  # type: ignore[attr-defined]
        if trainer.state.fn == TrainerFn.FITTING and _AVERAGING in checkpoint and not averages:
            raise ConfigError(
                "trainer.callbacks: the run up to this checkpoint averaged its weights; give PolicyEMA as before, or "
                "export the checkpoint and start a new run from the average"
            )
        self._random_states = checkpoint[_RANDOM]

    def save(self, trainer: pl.Trainer) -> None:
        """Write the checkpoint of this step, unless it is there, and remove those that are not to be kept.

        Raises:
            DataError: the disk refused it, and ``if_refused`` is stop.
        """
        if trainer.fast_dev_run or trainer.global_step == self._saved_step:  # type: ignore[attr-defined]
            return
        directory = Path(trainer.default_root_dir, CHECKPOINTS)
        path = checkpoint_path(directory, trainer.global_step)
        error: str | None = trainer.strategy.broadcast(lack_of_room(directory))
        if error is None:
            trainer.save_checkpoint(path)
            writer = trainer.strategy if isinstance(trainer.strategy, ZeRO) else trainer.strategy.checkpoint_io
            refusal = getattr(writer, "error", None)
            error = trainer.strategy.broadcast(None if refusal is None else str(refusal))
        if error is not None:
            message = f"step {trainer.global_step}: the checkpoint {path} was not written ({error})"
            if self.if_refused == "stop":
                raise DataError(f"{message}; training stops; earlier checkpoints are intact")
            rank_zero_warn(f"{message}; TRAINING CONTINUES WITHOUT IT. Free disk space; earlier checkpoints are intact")
            return
        self._saved_step = trainer.global_step
        if trainer.is_global_zero:
            try:
                sync_files(directory.parent)  # metrics of the steps before, which no resumed run logs again
            except OSError as refusal:
                rank_zero_warn(f"step {trainer.global_step}: the disk refused metrics ({refusal})")
            prune(directory, self.keep_last, self.keep_every)
        trainer.strategy.barrier()


def _reopen_epoch(fit_loop: dict[str, Any]) -> None:
    """Of a checkpoint at the end: as of one amid the only epoch, so that a longer run, or its next part, goes on there.

    A run that ends before its horizon for a reason of its own, such as a figure that is reached, stays ended.
    """
    epoch = fit_loop["epoch_progress"]
    if not epoch["current"]["processed"]:
        return
    for progress in (epoch["current"], epoch["total"]):
        progress["processed"] = progress["completed"] = 0
    batches = fit_loop["epoch_loop.batch_progress"]
    for progress in (batches["current"], batches["total"]):
        progress["completed"] = progress["processed"] - 1
    fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def _random_states() -> dict[str, Any]:
    """Of every generator that training may draw from, as plain values."""
    state: Any = np.random.get_state()
    name, keys, *rest = state
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, keys.tolist(), *rest],
        "python": random.getstate(),
    }


def _set_random_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    np.random.set_state(tuple(states["numpy"]))
    random.setstate(states["python"])
