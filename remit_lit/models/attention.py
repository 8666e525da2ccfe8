"""Which implementations of attention keep packed documents apart, and which of them can run where."""

from transformers.utils.import_utils import is_flash_attn_2_available, is_kernels_available

from remit_lit.errors import ConfigError
from remit_lit.models.spec import ModelSpec


def check_attention(field: str, spec: ModelSpec, device: str, *, trains: bool) -> None:
    """Refuse an implementation that cannot run, before any weights are loaded.

    Args:
        field: of the model.
        spec: the model.
        device: the type of device that it runs on: cpu, cuda.
        trains: whether gradients are asked for.

    Raises:
        ConfigError: naming the field, and what can run.
    """
    name = spec.attn_implementation
    if name == "flash_attention_2" and not (is_flash_attn_2_available() or is_kernels_available()):
        raise ConfigError(
            f"{field}.attn_implementation: got {name}, which needs an NVIDIA GPU and the package flash-attn, not found "
            "here; pip install flash-attn --no-build-isolation, or give flex_attention or sdpa"
        )
    if name == "flex_attention" and device == "cpu" and trains:
        raise ConfigError(
            f"{field}.attn_implementation: got {name}, whose gradients PyTorch computes on GPUs only; give sdpa to "
            "train on a CPU (scoring and evaluation take either)"
        )
