"""What cannot work is refused here, before any weights are loaded."""

from typing import TYPE_CHECKING

import lightning.pytorch as pl
import torch

from remit_lit.distributed import ZeRO, check_strategy
from remit_lit.errors import ConfigError, require_range
from remit_lit.reference import LiveReference, check_reads

if TYPE_CHECKING:
    from remit_lit.module import MidTrainingModule


def check_settings(module: "MidTrainingModule") -> None:
    """Refuse settings of the module that contradict each other.

    Raises:
        ConfigError: naming the field, what it got and what would be right.
    """
    module.spec.check("policy")
    module.horizon.check()
    require_range("model.z_loss", module.z_loss, 0.0, float("inf"), include_low=True)
    try:
        module.optimizer([torch.nn.Parameter(torch.zeros(1))])
    except (ValueError, TypeError) as error:
        raise ConfigError(f"model.optimizer: {error}") from error
    name = type(module.weighting).__name__
    if module.reference is None and (module.weighting.needs_reference or module.weighting.selects_rows):
        raise ConfigError(
            f"model.reference: {name} compares with a reference, but got none; give a LiveReference (a frozen model) "
            "or a CachedReference (a column that `score` wrote)"
        )
    if module.distillation is not None and not isinstance(module.reference, LiveReference):
        given = type(module.reference).__name__ if module.reference else "none"
        raise ConfigError(
            f"model.reference: distillation needs the reference's whole distribution; got {given}, give a LiveReference"
        )


def _check_sharded(module: "MidTrainingModule", trainer: pl.Trainer) -> None:
    if not isinstance(trainer.strategy, ZeRO):
        raise ConfigError(
            f"reference.sharded: got true with {type(trainer.strategy).__name__}; it needs ZeRO "
            "(experiments/scale/zero3.yaml)"
        )
    if module.distillation is not None:
        raise ConfigError("reference.sharded: got true, but distillation needs a whole reference; give false")


def check_precision(precision: object) -> None:
    """Raise ConfigError for fp16: with its loss scaling the gradients stored in the forward pass would underflow."""
    if str(precision).startswith("16"):
        raise ConfigError(f"trainer.precision: got {precision}; give bf16-mixed, bf16-true or 32-true")


def check_fit(module: "MidTrainingModule", trainer: pl.Trainer, stage: str) -> None:
    """Refuse a policy, a reference and rows that do not fit each other.

    Raises:
        ConfigError: naming the field, what it got and what would be right.
    """
    manifest = module.data.manifest
    check_reads("policy", module.spec, manifest)
    if stage != "fit":
        return
    for reference in module.references:
        reference.check(module.spec, manifest)
        if getattr(reference, "sharded", False):
            _check_sharded(module, trainer)
    check_precision(trainer.precision)
    check_strategy(trainer)
    if trainer.max_epochs != 1:
        raise ConfigError(f"trainer.max_epochs: got {trainer.max_epochs}; give 1: a run's length is model.horizon")
    steps = module.horizon.in_steps(module.tokens_per_step)
    warmup = module.schedule.warmup_steps
    if warmup >= steps:
        raise ConfigError(f"model.schedule.warmup_steps: got {warmup}; give less than the horizon of {steps} steps")
    if trainer.max_steps > steps:
        raise ConfigError(f"trainer.max_steps: got {trainer.max_steps}; give at most the horizon of {steps} steps")
