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
        first_run_flops: of the policy, of a live teacher, and of scoring all rows of the split once by the other
            references: with cached scores, what the first run takes. None as ``scoring_flops``.
        further_run_flops: the same without the scoring, which later runs on these rows need not repeat.
        seconds: of training with its validations, evaluations and checkpoints.
    """

    tokens: int
    policy_flops: float
    reference_flops: float
    scoring_flops: float | None
    first_run_flops: float | None
    further_run_flops: float
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
    weighing, teaching, scoring_rows = (
        sum(_live_forwards(references, length)) for references in (frozen.weighing, frozen.teaching, choosing)
    )
    policy_flops = tokens * (flops_per_token(policy, length) + frozen.passes_first * forward_flops(policy, length))
    scoring = _scoring_flops(data, frozen.columns(chooses_rows=bool(choosing)))
    further = policy_flops + tokens * teaching
    return Cost(
        tokens=tokens,
        policy_flops=policy_flops,
        reference_flops=tokens * (weighing + teaching) + rows * length * scoring_rows,
        scoring_flops=scoring,
        first_run_flops=None if scoring is None else further + scoring + rows * length * (weighing + scoring_rows),
        further_run_flops=further,
        seconds=seconds,
    )


def _live_forwards(references: Iterable[Reference], sequence_length: int) -> list[float]:
    """FLOPs per token of a forward pass of each reference that is live."""
    return [_forward_flops(r.spec, sequence_length) for r in references if isinstance(r, LiveReference)]


def _forward_flops(spec: ModelSpec, sequence_length: int) -> float:
    """Per token, by the model's shapes alone: a run may hold shards of it, or none of it any more."""
    with torch.device("meta"):
        return forward_flops(spec.build_empty(), sequence_length)


def _scoring_flops(data: PackedData, columns: Iterable[str]) -> float | None:
    """Of the columns that the run reads and those that its rows were chosen by; of one model, one pass writes all."""
    rows, subset = data.rows_directory, data.subset
    chosen_by = () if subset is None else read_subset_facts(rows, "train", subset).columns
    of_models: dict[str, float] = {}
    for facts in (read_facts(column_directory(rows, "train", name)) for name in {*columns, *chosen_by}):
        if facts.forward_flops is None:
            return None
        of_models[facts.model] = facts.num_rows * facts.sequence_length * facts.forward_flops
    return sum(of_models.values())
