"""Counts of a run's models, from their configs alone."""

from dataclasses import dataclass
from typing import Any

import torch

from remit_lit.callbacks.throughput import flops_per_token
from remit_lit.estimate.step import live, spec_of
from remit_lit.module import MidTrainingModule


@dataclass(frozen=True)
class Sizes:
    """What the models of a run count.

    Attributes:
        name: class of the policy.
        parameters: of the policy, shared ones once.
        embeddings: of them, in input and output embeddings.
        trained: of them, with gradients.
        flops: per token, of the policy's forward and backward and of the forward of frozen models asked in training.
    """

    name: str
    parameters: int
    embeddings: int
    trained: int
    flops: float


def count(module: MidTrainingModule, sequence_length: int) -> Sizes:
    """Build the models on the meta device and count.

    Args:
        module: the run's module, whose models have not been loaded.
        sequence_length: tokens in a row.
    """
    asked = live(module.asked(chooses_rows=False))
    with torch.device("meta"):
        policy = module.spec.outline("policy")
        frozen = [spec_of(reference, module.spec).outline("reference.model") for reference in asked]
    parameters = list(policy.parameters())
    ends: Any = policy.get_input_embeddings(), policy.get_output_embeddings()
    embeddings = {id(end.weight): end.weight.numel() for end in ends}
    return Sizes(
        name=type(policy).__name__,
        parameters=sum(p.numel() for p in parameters),
        embeddings=sum(embeddings.values()),
        trained=sum(p.numel() for p in parameters if p.requires_grad),
        # A forward pass is a third of forward and backward.
        flops=flops_per_token(policy, sequence_length) + sum(flops_per_token(m, sequence_length) for m in frozen) / 3,
    )
