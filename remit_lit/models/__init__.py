"""Causal language models: where they come from, how they are built, saved and counted."""

from remit_lit.models.loss_head import hidden_states, loss_head
from remit_lit.models.spec import ModelSpec

__all__ = ["ModelSpec", "hidden_states", "loss_head"]
