"""How a run's policy attends and its loss is computed on a device, settled before any weights are loaded."""

import importlib.util
import os

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info

from remit_lit.errors import ConfigError
from remit_lit.losses import LossKernel
from remit_lit.models.attention import settled_attention
from remit_lit.models.spec import ModelSpec
from remit_lit.weighting import TokenWeighting

_FIELD = "model.loss_kernel"
_MODULES = {"liger": "liger_kernel", "cut_cross_entropy": "cut_cross_entropy"}


def settled_policy(
    spec: ModelSpec,
    trainer: pl.Trainer,
    weighting: TokenWeighting,
    kernel: LossKernel | None,
    *,
    packed: bool,
    z_loss: float,
    compiles: bool,
) -> ModelSpec:
    """The policy with what ``attn_implementation: auto`` stands for here, which is said, and a loss that can run.

    Args:
        spec: the policy.
        trainer: with the device and the precision.
        weighting: the strategy, which may read more than NLLs.
        kernel: whose computes the loss; None is the package itself.
        packed: whether documents in a row are kept apart.
        z_loss: coefficient of a term of log-normalisers.
        compiles: whether the package's own loss is to be compiled.

    Raises:
        ConfigError: naming the field, and what would be right; nothing has been loaded.
    """
    device = trainer.strategy.root_device.type
    is_half = trainer.precision.startswith(("bf16", "16")) or spec.dtype != "float32"
    settled = settled_attention("model.policy", spec, device, packed=packed, is_half=is_half, trains=True)
    if settled != spec:
        rank_zero_info(f"model.policy.attn_implementation: auto is {settled.attn_implementation} here")
    if kernel is not None:
        _check_kernel(kernel, weighting, z_loss, device, compiles=compiles, is_half=is_half)
    return settled


def _check_kernel(
    kernel: LossKernel, weighting: TokenWeighting, z_loss: float, device: str, *, compiles: bool, is_half: bool
) -> None:
    more = {
        "model.z_loss": f"got {z_loss}" if z_loss else "",
        "model.weighting": "it reads the policy's entropy" if "policy_entropy" in weighting.signals else "",
        "model.compile_loss": "got true" if compiles else "",
    }
    for field, asked in more.items():
        if asked:
            raise ConfigError(
                f"{field}: {asked}, but {_FIELD} {kernel} gives each token's NLL and nothing else; set {_FIELD} to null"
            )
    missing = [name for name in ("triton", _MODULES[kernel]) if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{_FIELD}: got {kernel}, which needs the package {missing[0]}, not found here; pip install "
            "'remit_lit[kernels]', or give null"
        )
    # Triton's interpreter runs kernels in NumPy, for tests.
    if device != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ConfigError(
            f"{_FIELD}: got {kernel}, which Triton compiles for GPUs; give null to train on this device ({device})"
        )
    if kernel == "cut_cross_entropy" and not is_half:
        raise ConfigError(
            f"{_FIELD}: got {kernel}, whose gradients are of bfloat16 or float16 only; set trainer.precision to "
            "bf16-mixed, or give liger or null"
        )
