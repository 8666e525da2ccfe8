"""NLLs and weights of an excerpt, by the functions of training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from lightning.fabric import Fabric
from torch import Tensor

from remit_lit.data.progress_bar import progress
from remit_lit.errors import ConfigError, NonFiniteError
from remit_lit.evaluation.isolation import seeded
from remit_lit.inspection.excerpt import Excerpt
from remit_lit.inspection.policies import Policy
from remit_lit.models.export import as_model
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import InitialPolicy, LiveReference, Reference
from remit_lit.training.engines import restore_frequencies
from remit_lit.training.module import MidTrainingModule
from remit_lit.training.objective import policy_nll, signals_of
from remit_lit.weighting.checks import checked_weights, fault


@dataclass(frozen=True)
class Weighed:
    """What a strategy makes of an excerpt with one policy; each [rows, time], about the token predicted there.

    Attributes:
        weights: of the tokens.
        compared: NLL that stands for the policy's in the comparison, nats.
        neutral: True where a token weighs 1 and is left out of centring and ranking.
        centered: the centred score that the weight is a function of; None where there is none.
    """

    weights: Tensor
    compared: Tensor
    neutral: Tensor
    centered: Tensor | None


@torch.no_grad()
def score_policy(policy: Policy, excerpt: Excerpt, fabric: Fabric, *, is_bf16: bool) -> Tensor:
    """The policy's NLLs in nats as its forward pass in training gives them, [rows, time].

    Raises:
        NonFiniteError: NaN or infinite at counted tokens; names the policy and the rows.
    """
    with as_model(policy.spec) as spec:
        model = spec.load(policy.field).requires_grad_(False).to(fabric.device)  # type: ignore[arg-type]
    if is_bf16:
        model.to(torch.bfloat16)  # type: ignore[call-arg, arg-type]
        restore_frequencies(model)
    nlls = []
    with fabric.autocast(), progress(policy.name, len(excerpt.rows), "row") as bar:
        for batch in excerpt.batches(excerpt.data.batch_size, fabric.device):
            nlls.append(policy_nll(model, batch))
            broken = (~torch.isfinite(nlls[-1]) & batch.mask).any(dim=1)
            if broken.any():
                raise NonFiniteError(
                    f"{policy.field}: the NLLs of {policy.name} are NaN or infinite in row(s) "
                    f"{batch.rows[broken].tolist()}; check its weights"
                )
            bar.update(len(batch.rows))
    return torch.cat(nlls)


def key_of(reference: Reference, policy: ModelSpec) -> object:
    """Equal for two references that give the same NLLs."""
    if reference.column is not None:
        return reference.column
    if isinstance(reference, InitialPolicy):
        return repr(policy)
    return repr(reference.spec) if isinstance(reference, LiveReference) else id(reference)


def score_references(
    references: Sequence[Reference], policy: ModelSpec, excerpt: Excerpt, device: torch.device
) -> dict[object, Tensor]:
    """NLLs of each different reference in nats by :func:`key_of`, [rows, time].

    Raises:
        NonFiniteError: NaN or infinite in a column at counted tokens.
    """
    scores: dict[object, Tensor] = {}
    for reference in references:
        if key_of(reference, policy) in scores:
            continue
        reference.load(policy, device)
        with progress(str(reference), len(excerpt.rows), "row") as bar:
            nlls = []
            for batch in excerpt.batches(excerpt.data.batch_size, device):
                nlls.append(reference.nll(batch))
                bar.update(len(batch.rows))
        scores[key_of(reference, policy)] = torch.cat(nlls)
        reference.release()
    return scores


def weigh(
    module: MidTrainingModule,
    neutral_ids: Tensor,
    excerpt: Excerpt,
    group: int,
    nll: Tensor,
    references: Mapping[object, Tensor],
) -> Weighed:
    """The strategy's weights, ``group`` rows at a time as it is given them in training.

    What a strategy draws at random is drawn from the seed of the data.

    Args:
        module: of the strategy, not set up.
        neutral_ids: ids of tokens that get weight 1, int64 [ids].
        excerpt: the rows.
        group: rows that it weighs together.
        nll: of the policy, nats, [rows, time].
        references: NLLs by :func:`key_of`, nats, [rows, time].

    Raises:
        ConfigError: a weight is NaN, infinite, negative, or not 0 where no token counts.
        NonFiniteError: the reference's NLL of a counted token is NaN or infinite.
    """
    compares = module.weighting.needs_reference
    base = module.base if compares else None
    compared = nll if base is None else references[key_of(base, module.spec)]
    reference = references[key_of(module.reference, module.spec)] if compares and module.reference else None
    weights, neutral, centered = [], [], []
    with torch.no_grad(), seeded(excerpt.data.seed):
        for index, batch in enumerate(excerpt.batches(group, nll.device)):
            rows = slice(index * group, index * group + len(batch.rows))
            signals = signals_of(batch, compared[rows], None if reference is None else reference[rows], neutral_ids)
            weights.append(checked_weights(module.weighting, signals))
            wrong = fault(module.weighting, weights[-1], signals, batch.rows.tolist())
            if wrong is not None:
                raise ConfigError(wrong)
            neutral.append(signals.mask & ~signals.ranked)
            centered.append(module.weighting.centered(signals))
    known = [part for part in centered if part is not None]
    return Weighed(torch.cat(weights), compared, torch.cat(neutral), torch.cat(known) if known else None)
