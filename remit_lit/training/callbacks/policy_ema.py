"""An exponential moving average of the policy's weights, which takes their place at validation and at the end."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch.optim.swa_utils import AveragedModel

from remit_lit.errors import ConfigError, require_at_least
from remit_lit.training.callbacks import mid_training
from remit_lit.training.engines import ZeRO


class PolicyEMA(EMAWeightAveraging):
    """Average the policy's weights over steps: ``average = decay * average + (1 - decay) * weights`` after each.

    Training goes on from the weights themselves and is the same to the last bit. Validation measures the average, what
    is measured when training ends is measured of it, and ``run_dir/model`` and exported checkpoints are it. A
    checkpoint has both, so that a run goes on as if it had not stopped. ``InLoopEvaluation`` measures the weights in
    training until the last step, and the average then.

    Lightning's callback does the averaging. What is ours: the copy is made of the policy as training begins with it;
    the order of callbacks does not matter; and before the first update the weights themselves are what counts.

    Args:
        decay: in (0, 1); the average looks back over about 1 / (1 - decay) steps. 0.999 is Lightning's.
        first_step: steps after which averaging begins, with a copy of the weights; e.g. where the learning rate starts
            to fall.
        device: where the average is kept; null is the policy's device, cpu saves its memory.

    Raises:
        ConfigError: ``decay`` is outside (0, 1); and when a run starts, it ends before ``first_step``, its weights are
            bfloat16, whose steps are larger than most updates, or they are sharded by ZeRO.
    """

    def __init__(self, decay: float = 0.999, first_step: int = 0, device: str | None = None) -> None:
        if not 0 < decay < 1:
            raise ConfigError(f"PolicyEMA.decay: got {decay}; give a number above 0 and below 1")
        require_at_least("PolicyEMA.first_step", first_step, 0)
        super().__init__(device, use_buffers=False, decay=decay, update_starting_at_step=first_step)
        self.decay, self.first_step, self.device = decay, first_step, device
        self._has_exchanged = False

    def summary(self) -> list[str]:
        """A line for the end of a run."""
        return [f"the model is the average of the weights after {self._updates:,} steps, with decay {self.decay}"]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        module = mid_training(pl_module)
        if isinstance(trainer.strategy, ZeRO):
            raise ConfigError("PolicyEMA: got ZeRO, which shards the weights that are to be averaged; give ddp")
        if trainer.precision == "bf16-true":
            raise ConfigError("PolicyEMA: got trainer.precision=bf16-true, which rounds updates away; give bf16-mixed")
        steps = module.horizon.in_steps(module.tokens_per_step)
        if self.first_step >= steps:
            raise ConfigError(f"PolicyEMA.first_step: got {self.first_step}; the run has {steps} steps, give fewer")

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._copy(pl_module).to(self._device or pl_module.device)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn == TrainerFn.FITTING:  # Lightning comes here before the start of fit
            self._copy(pl_module)
        super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._has_exchanged:
            checkpoint["state_dict"], checkpoint["current_model_state"] = (
                checkpoint["current_model_state"],
                checkpoint["state_dict"],
            )
        elif self._updates == 0:
            checkpoint["state_dict"] = checkpoint["current_model_state"]

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._exchange(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._exchange(pl_module)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """As early as Lightning does this, callbacks before this one would measure the weights in training."""

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """As on_validation_epoch_start."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run is one epoch: from here on, all that comes when training ends finds the average in the policy."""
        self._exchange(pl_module)
        self._has_exchanged = self._updates > 0

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning would lose the weights in training, from which a longer run could go on."""

    @property
    def _updates(self) -> int:
        return 0 if self._average_model is None else int(self._average_model.n_averaged)

    def _copy(self, pl_module: pl.LightningModule) -> AveragedModel:
        if self._average_model is None:
            self._average_model = AveragedModel(pl_module, use_buffers=False, **self._kwargs)
        return self._average_model

    def _exchange(self, pl_module: pl.LightningModule) -> None:
        if self._updates > 0:
            self._swap_models(pl_module)
