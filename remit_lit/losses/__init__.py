"""Cross-entropy from hidden states without the logits of a whole batch."""

from remit_lit.losses.chunked import IGNORE_INDEX, token_nll, weighted_nll

__all__ = ["IGNORE_INDEX", "token_nll", "weighted_nll"]
