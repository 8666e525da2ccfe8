"""Weights that ZeRO shards over the ranks: their sizes, the whole of them, and frozen models made of shards."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from remit_lit.errors import ConfigError
from remit_lit.runs.weights import ENGINE

if TYPE_CHECKING:
    from lightning.pytorch.strategies import Strategy
    from transformers import PreTrainedModel

    from remit_lit.models.spec import ModelSpec


def load_sharded(spec: "ModelSpec", field: str) -> "PreTrainedModel":
    """A frozen model whose weights ZeRO stage 3 shards over the ranks. Every rank must call it, and run it in step.

    Raises:
        ConfigError: naming ``field``.
    """
    import deepspeed
    from transformers.integrations.deepspeed import HfDeepSpeedConfig

    config = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": 3},
        "bf16": {"enabled": spec.dtype == "bfloat16"},
    }
    shards = HfDeepSpeedConfig(config)  # transformers looks at the living instance
    model = spec.load(field).requires_grad_(False)
    del shards
    engine = deepspeed.initialize(model=model, config=config, model_parameters=[])[0]
    object.__setattr__(model, "engine", engine)  # its hooks gather the weights; it is no submodule of the model
    return model


def size_of(parameter: nn.Parameter) -> torch.Size:
    """Shape of a parameter as a whole, also where this rank holds a shard."""
    return getattr(parameter, "ds_shape", parameter.shape)


def full_state_dict(model: nn.Module, strategy: "Strategy") -> dict[str, Tensor] | None:
    """Weights as a whole on rank 0's CPU, None on the others; under ZeRO those of the float32 masters.

    Every rank must call it.
    """
    from lightning.pytorch.strategies import (
        DeepSpeedStrategy,  # only here: verbs without a trainer need not wait for it
    )

    if not isinstance(strategy, DeepSpeedStrategy):
        return dict(model.state_dict()) if strategy.is_global_zero else None
    from deepspeed.utils import safe_get_full_fp32_param

    state: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        whole = safe_get_full_fp32_param(parameter)
        if strategy.is_global_zero:
            state[name] = whole.cpu().clone()
    if not strategy.is_global_zero:
        return None
    return {name: state.get(name, value) for name, value in model.state_dict().items()}


def read_zero_weights(checkpoint: Path) -> dict[str, Tensor]:
    """The float32 masters in a ZeRO checkpoint, on the CPU.

    Raises:
        ConfigError: DeepSpeed is not installed.
    """
    try:
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
    except ImportError as error:
        raise ConfigError(f"checkpoint: {checkpoint} needs DeepSpeed; pip install 'remit_lit[deepspeed]'") from error
    state: dict[str, Tensor] = get_fp32_state_dict_from_zero_checkpoint(str(checkpoint), tag=ENGINE)
    return state
