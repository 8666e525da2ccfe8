"""Half-precision weights and small learning rates: most steps would round to nothing."""

import os

import torch

from remit_lit.errors import ConfigError
from remit_lit.models.spec import ModelSpec
from remit_lit.posttraining.stage import Training

# Deviation at which the weights of language models are initialised: a weight of ordinary size.
_ORDINARY_WEIGHT = 0.02


def require_moving_weights(model: ModelSpec, training: Training) -> None:
    """Refuse a learning rate that half-precision weights cannot follow.

    AdamW moves a weight by about the learning rate in a step. Where that is less than half the distance to the next
    number of the dtype, the sum rounds to the old weight. DeepSpeed keeps float32 copies of
    such weights, and is let pass.

    Raises:
        ConfigError: naming both fields and the least learning rate.
    """
    dtype = getattr(torch, model.dtype)
    if dtype == torch.float32 or _has_float32_copies(training):
        return
    exponent = torch.frexp(torch.tensor(_ORDINARY_WEIGHT)).exponent.item() - 1
    least = torch.finfo(dtype).eps * 2.0**exponent / 2
    if training.learning_rate < least:
        raise ConfigError(
            f"model.dtype: got {model.dtype} with a training.learning_rate of {training.learning_rate:g}, but weights "
            f"of {_ORDINARY_WEIGHT} round away steps below {least:.1e}, so most would never move; give float32 (with "
            "training.precision bf16-mixed), or start under DeepSpeed, which keeps float32 copies"
        )


def _has_float32_copies(training: Training) -> bool:
    # Set by `accelerate launch` with a DeepSpeed configuration.
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true" or "deepspeed" in training.trl
