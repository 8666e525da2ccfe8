"""What a run costs: tokens, and FLOPs of the policy, of live references, and of the scoring of cached ones."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from remit_lit.data.columns import column_directory, read_facts
from remit_lit.models.flops import flops_per_token, forward_flops
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import LiveReference, Reference
from remit_lit.reference.subsets import read_subset_facts
from remit_lit.training.datamodule import PackedData
from remit_lit.training.frozen import FrozenModels


@dataclass(frozen=True)
class Cost:
    """Of a whole run, as if it had not been interrupted. FLOPs as in PaLM (appendix B): recomputed activations,
    validation and evaluation are not counted.

    Attributes:
        tokens: trained on.
        policy_flops: forward and backward of the policy, and its first pass where a step is weighed as a whole.
        reference_flops: forward passes of live references, in training and for the choice of rows before it.
        scoring_flops: what the cached columns cost once, for all rows of the split and whatever the run's length; None
            where an earlier version wrote a column.
        seconds: of training with its validations, evaluations and checkpoints.
    """

    tokens: int
    policy_flops: float
    reference_flops: float
    scoring_flops: float | None
    seconds: float


def count_cost(frozen: FrozenModels, policy: nn.Module, data: PackedData, tokens: int, seconds: float) -> Cost:
    """What a run that trained on ``tokens`` tokens cost.

    Args:
        frozen: the frozen models of the run.
        policy: the model that was trained.
        data: of the run.
        tokens: trained on, over all ranks.
        seconds: that training took.
    """
    manifest, choosing = data.manifest, frozen.choosing if data.subset is None else []
    length, rows = manifest.sequence_length, manifest.counts["train"]["rows"]
    live = sum(tokens * forward for forward in _live_forwards([*frozen.weighing, *frozen.teaching], length))
    live += sum(rows * length * forward for forward in _live_forwards(choosing, length))
    read = frozen.needed(chooses_rows=bool(choosing))
    return Cost(
        tokens=tokens,
        policy_flops=tokens * (flops_per_token(policy, length) + frozen.passes_first * forward_flops(policy, length)),
        reference_flops=live,
        scoring_flops=_scoring_flops(data, {r.column for r in read if r.column is not None}),
        seconds=seconds,
    )


def _live_forwards(references: Iterable[Reference], sequence_length: int) -> list[float]:
    """FLOPs per token of a forward pass of each reference that is live."""
    return [_forward_flops(r.spec, sequence_length) for r in references if isinstance(r, LiveReference)]


def _forward_flops(spec: ModelSpec, sequence_length: int) -> float:
    """Per token, by the model's shapes alone: a run may hold shards of it, or none of it any more."""
    with torch.device("meta"):
        return forward_flops(spec.outline("reference.model"), sequence_length)


def _scoring_flops(data: PackedData, columns: set[str]) -> float | None:
    """Of the columns that the run reads, and of those that its rows were chosen by."""
    rows, subset = data.rows_directory, data.subset
    chosen_by = () if subset is None else read_subset_facts(rows, "train", subset).columns
    total = 0.0
    for facts in (read_facts(column_directory(rows, "train", name)) for name in {*columns, *chosen_by}):
        if facts.forward_flops is None:
            return None
        total += facts.num_rows * facts.sequence_length * facts.forward_flops
    return total
