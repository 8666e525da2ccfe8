"""Cross-entropy from hidden states without the logits of a whole batch."""

from remit_lit.losses.chunked import IGNORE_INDEX, token_nll, weighted_nll
from remit_lit.losses.kernels import LossKernel, kernel_nll

__all__ = ["IGNORE_INDEX", "LossKernel", "kernel_nll", "token_nll", "weighted_nll"]
