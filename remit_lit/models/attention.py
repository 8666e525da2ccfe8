"""Which implementations of attention keep packed documents apart, and which of them can run where."""

from dataclasses import replace

from transformers.utils.import_utils import is_flash_attn_2_available, is_kernels_available

from remit_lit.errors import ConfigError
from remit_lit.models.spec import ModelSpec


def settled_attention(
    field: str, spec: ModelSpec, device: str, *, packed: bool, is_half: bool, trains: bool
) -> ModelSpec:
    """A model with an implementation that can run, before any weights are loaded.

    Where documents see each other, the causal kernels behind sdpa compute no more than others do. Where they do not,
    sdpa computes all pairs of a row, and the others those of one document.

    Args:
        field: of the model.
        spec: the model.
        device: the type of device that it runs on: cpu, cuda.
        packed: whether documents in a row are kept apart.
        is_half: whether it computes in bfloat16 or float16, which flash attention needs.
        trains: whether gradients are asked for.

    Raises:
        ConfigError: naming the field, and what can run.
    """
    if spec.attn_implementation == "auto":
        name = "sdpa"
        if device == "cuda" and packed:
            name = "flash_attention_2" if is_half and is_flash_attn_2_available() else "flex_attention"
        return replace(spec, attn_implementation=name)
    name = spec.attn_implementation
    if name == "flash_attention_2" and not (is_flash_attn_2_available() or is_kernels_available()):
        raise ConfigError(
            f"{field}.attn_implementation: got {name}, which needs an NVIDIA GPU and the package flash-attn, not found "
            "here; pip install flash-attn --no-build-isolation, or give auto"
        )
    if name == "flex_attention" and device == "cpu" and trains:
        raise ConfigError(
            f"{field}.attn_implementation: got {name}, whose gradients PyTorch computes on GPUs only; give auto to "
            "train on a CPU (scoring and evaluation take either)"
        )
    return spec
