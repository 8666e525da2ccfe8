"""What a run costs: tokens, and FLOPs of the policy, of live references, and of the scoring of cached ones."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from remit_lit.data.columns import column_directory, read_facts
from remit_lit.models.flops import flops_per_token, forward_flops
from remit_lit.reference.reference import LiveReference, Reference
from remit_lit.reference.subsets import read_subset_facts
from remit_lit.training.module import MidTrainingModule


@dataclass(frozen=True)
class Cost:
    """Of a whole run, as if it had not been interrupted. FLOPs as in PaLM (appendix B): recomputed activations,
    validation and evaluation are not counted.

    Attributes:
        tokens: trained on.
        policy_flops: forward and backward of the policy.
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


def count_cost(module: MidTrainingModule, steps: int, seconds: float) -> Cost:
    """What a run of ``steps`` optimizer steps cost.

    Args:
        module: of a run that has trained.
        steps: optimizer steps.
        seconds: that they took.
    """
    assert module.policy is not None
    manifest, tokens = module.data.manifest, steps * module.tokens_per_step
    in_training, before = _forwards(module)
    scored = manifest.counts["train"]["rows"] * manifest.sequence_length if before else 0
    live = sum(tokens * _forward_flops(r, manifest.sequence_length) for r in _live(in_training))
    live += sum(scored * _forward_flops(r, manifest.sequence_length) for r in _live(before))
    return Cost(
        tokens=tokens,
        policy_flops=flops_per_token(module.policy, manifest.sequence_length) * tokens,
        reference_flops=live,
        scoring_flops=_scoring_flops(module),
        seconds=seconds,
    )


def _forwards(module: MidTrainingModule) -> tuple[list[Reference], list[Reference]]:
    """References by forward passes: those of each token of training, and those of each row before it."""
    weighing = [module.reference, module.base] if module.weighting.needs_reference else []
    # A teacher's hidden states are made apart from its NLLs.
    teaching = [module.reference] if module.distillation is not None else []
    chooses = module.weighting.selects_rows and module.data.subset is None
    choosing = [module.reference, module.base] if chooses else []
    return [r for r in (*weighing, *teaching) if r is not None], [r for r in choosing if r is not None]


def _live(references: Iterable[Reference]) -> list[LiveReference]:
    return [reference for reference in references if isinstance(reference, LiveReference)]


def _forward_flops(reference: LiveReference, sequence_length: int) -> float:
    """Per token, by the model's shapes alone: a run may hold shards of it, or none of it any more."""
    with torch.device("meta"):
        return forward_flops(reference.spec.outline("reference.model"), sequence_length)


def _scoring_flops(module: MidTrainingModule) -> float | None:
    """Of every column that the run reads, or that its rows were chosen by."""
    rows, subset = module.data.rows_directory, module.data.subset
    names = {*module.columns, *(read_subset_facts(rows, "train", subset).columns if subset is not None else ())}
    total = 0.0
    for facts in (read_facts(column_directory(rows, "train", name)) for name in names):
        if facts.forward_flops is None:
            return None
        total += facts.num_rows * facts.sequence_length * facts.forward_flops
    return total
