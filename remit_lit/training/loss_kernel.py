"""What must hold before the fused kernels of another package compute a run's loss."""

import importlib.util
import os

from remit_lit.errors import ConfigError
from remit_lit.losses import LossKernel
from remit_lit.weighting import TokenWeighting

_FIELD = "model.loss_kernel"
_MODULES = {"liger": "liger_kernel", "cut_cross_entropy": "cut_cross_entropy"}


def check_loss_kernel(
    kernel: LossKernel | None, weighting: TokenWeighting, z_loss: float, device: str, *, compiles: bool, is_half: bool
) -> None:
    """Refuse a kernel that gives too little, or that cannot run here.

    Args:
        kernel: whose; None asks for nothing.
        weighting: the strategy, which may read more than NLLs.
        z_loss: coefficient of a term of log-normalisers.
        device: type of the device that trains: cpu, cuda.
        compiles: whether the package's own loss is to be compiled.
        is_half: whether hidden states are bfloat16 or float16.

    Raises:
        ConfigError: naming the field, and what would be right.
    """
    if kernel is None:
        return
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
