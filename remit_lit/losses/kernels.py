"""Each token's NLL by the fused kernels of other packages, in the place of ``token_nll``."""

from typing import Any, Literal

import torch
from torch import Tensor

from remit_lit.errors import ConfigError
from remit_lit.losses.chunked import IGNORE_INDEX, compute_type

LossKernel = Literal["liger", "cut_cross_entropy"]


def kernel_nll(
    kernel: LossKernel, hidden: Tensor, weight: Tensor, targets: Tensor, *, bias: Tensor | None = None
) -> Tensor:
    """Negative log-likelihood of each target, differentiable, by a kernel that keeps no logits of a whole batch.

    Liger's (arXiv:2410.10989) rounds logits to the type of ``hidden``, and computes them again in backward. Apple's
    cut cross-entropy (arXiv:2411.09009) never writes them to memory, and leaves out of its gradients what is below
    1/32 of the type's epsilon, its authors' default.

    Args:
        kernel: whose.
        hidden: last hidden states, [batch, time, dim].
        weight: output embedding, [vocab, dim].
        targets: token predicted at each position, [batch, time]; ``IGNORE_INDEX`` where there is none.
        bias: of the output embedding, [vocab].

    Returns:
        NLL in nats, float32, [batch, time], 0 where ignored.

    Raises:
        ConfigError: cut cross-entropy of an output embedding with a bias, which it does not know.
    """
    hidden = compute_type(hidden)
    if kernel == "liger":
        from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

        options: dict[str, Any] = {"ignore_index": IGNORE_INDEX, "reduction": "none", "accum_dtype": torch.float32}
        tokens, flat = hidden.flatten(0, -2), targets.flatten()
        found: Tensor = liger_fused_linear_cross_entropy(tokens, weight, flat, bias, **options)
        return found.view(targets.shape)
    from cut_cross_entropy import linear_cross_entropy

    if bias is not None:
        raise ConfigError(f"model.loss_kernel: got {kernel}, but the output embedding has a bias; give liger or null")
    nll: Tensor = linear_cross_entropy(hidden, weight, targets, IGNORE_INDEX, reduction="none", filter_eps="auto")
    return nll
