"""FLOPs of a model, by its config and its parameters."""

from typing import Any

from torch import nn

from remit_lit.models.shards import size_of


def flops_per_token(model: nn.Module, sequence_length: int) -> float:
    """FLOPs of forward and backward per token, ``6 N + 12 layers * hidden * sequence_length`` (PaLM, appendix B).

    ``N`` counts the parameters that are multiplied with: all but input embeddings that are not tied to the output.
    Attention is counted as if each token saw the whole row.
    """
    config: Any = model.config
    lookup = model.get_input_embeddings().weight  # type: ignore[operator]
    tied = model.get_output_embeddings().weight is lookup  # type: ignore[operator]
    parameters = sum(size_of(p).numel() for p in model.parameters()) - (0 if tied else size_of(lookup).numel())
    return float(6 * parameters + 12 * config.num_hidden_layers * config.hidden_size * sequence_length)


def forward_flops(model: nn.Module, sequence_length: int) -> float:
    """FLOPs of a forward pass per token, a third of :func:`flops_per_token`: backward takes twice as many."""
    return flops_per_token(model, sequence_length) / 3
