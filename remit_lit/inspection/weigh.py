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
from remit_lit.models.token_scores import TokenScores
from remit_lit.reference.reference import InitialPolicy, LiveReference, Reference
from remit_lit.training.engines import restore_frequencies
from remit_lit.training.module import MidTrainingModule
from remit_lit.training.objective import policy_scores, signals_of
from remit_lit.weighting.checks import checked_weights, fault, faults


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
def score_policy(policy: Policy, excerpt: Excerpt, fabric: Fabric, *, is_bf16: bool, with_entropy: bool) -> TokenScores:
    """What the policy makes of the rows, as its forward pass in training gives it, [rows, time].

    Raises:
        NonFiniteError: NaN or infinite at counted tokens; names the policy and the rows.
    """
    with as_model(policy.spec) as spec:
        model = spec.load(policy.field).requires_grad_(False).to(fabric.device)  # type: ignore[arg-type]
    if is_bf16:
        model.to(torch.bfloat16)  # type: ignore[call-arg, arg-type]
        restore_frequencies(model)
    scores = []
    with fabric.autocast(), progress(policy.name, len(excerpt.rows), "row") as bar:
        for batch in excerpt.batches(excerpt.data.batch_size, fabric.device):
            scores.append(policy_scores(model, batch, with_entropy=with_entropy))
            assert scores[-1].nll is not None
            broken = (~torch.isfinite(scores[-1].nll) & batch.mask).any(dim=1)
            if broken.any():
                raise NonFiniteError(
                    f"{policy.field}: the NLLs of {policy.name} are NaN or infinite in row(s) "
                    f"{batch.rows[broken].tolist()}; check its weights"
                )
            bar.update(len(batch.rows))
    return _joined(scores)


def _joined(scores: Sequence[TokenScores]) -> TokenScores:
    """Those of all batches as if they were of one."""
    parts = [[value for value in values if value is not None] for values in zip(*scores, strict=True)]
    return TokenScores(*(torch.cat(values) if values else None for values in parts))


def key_of(reference: Reference, policy: ModelSpec) -> object:
    """Equal for two references that give the same scores."""
    if reference.column is not None:
        return tuple(reference.columns(with_entropy=True))
    if isinstance(reference, InitialPolicy):
        return repr(policy)
    return repr(reference.spec) if isinstance(reference, LiveReference) else id(reference)


def score_references(
    references: Sequence[Reference], policy: ModelSpec, excerpt: Excerpt, device: torch.device, *, with_entropy: bool
) -> dict[object, TokenScores]:
    """What each different reference makes of the rows by :func:`key_of`, [rows, time]; a column may know NLLs alone.

    Raises:
        NonFiniteError: NaN or infinite in a column at counted tokens.
    """
    scores: dict[object, TokenScores] = {}
    for reference in references:
        if key_of(reference, policy) in scores:
            continue
        reference.load(policy, device)
        with progress(str(reference), len(excerpt.rows), "row") as bar:
            of_batches = []
            for batch in excerpt.batches(excerpt.data.batch_size, device):
                found = reference.scores(batch, with_entropy=with_entropy and reference.knows_entropy)
                assert found.nll is not None
                reference.require_finite(found.nll, batch)
                of_batches.append(found)
                bar.update(len(batch.rows))
        scores[key_of(reference, policy)] = _joined(of_batches)
        reference.release()
    return scores


def weigh(
    module: MidTrainingModule,
    neutral_ids: Tensor,
    excerpt: Excerpt,
    group: int,
    policy: TokenScores,
    references: Mapping[object, TokenScores],
) -> Weighed:
    """The strategy's weights, ``group`` rows at a time as it is given them in training.

    What a strategy draws at random is drawn from the seed of the data.

    Args:
        module: of the strategy, not set up.
        neutral_ids: ids of tokens that get weight 1, int64 [ids].
        excerpt: the rows.
        group: rows that it weighs together.
        policy: its scores, [rows, time]; they count as those at the start of a run.
        references: scores by :func:`key_of`, [rows, time].

    Raises:
        ConfigError: a weight is NaN, infinite, negative, or not 0 where no token counts.
        NonFiniteError: the reference's NLL of a counted token is NaN or infinite.
    """
    compares = module.weighting.needs_reference
    base = module.base if compares else None
    compared = policy.nll if base is None else references[key_of(base, module.spec)].nll
    assert compared is not None
    reference = (
        references[key_of(module.reference, module.spec)] if compares and module.reference else TokenScores(None)
    )
    weights, neutral, centered = [], [], []
    with torch.no_grad(), seeded(excerpt.data.seed):
        for index, batch in enumerate(excerpt.batches(group, compared.device)):
            rows = slice(index * group, index * group + len(batch.rows))
            seen = _rows(policy._replace(nll=compared), rows), _rows(reference, rows)
            signals = signals_of(batch, module.weighting, *seen, neutral_ids, 0.0)
            weights.append(checked_weights(module.weighting, signals))
            wrong = fault(module.weighting, faults(weights[-1], signals).tolist(), batch.rows.tolist())
            if wrong is not None:
                raise ConfigError(wrong)
            neutral.append(signals.mask & ~signals.ranked)
            centered.append(module.weighting.centered(signals))
    known = [part for part in centered if part is not None]
    return Weighed(torch.cat(weights), compared, torch.cat(neutral), torch.cat(known) if known else None)


def _rows(scores: TokenScores, rows: slice) -> TokenScores:
    return TokenScores(*(None if values is None else values[rows] for values in scores))
