"""One batch to one weighted sum of losses: the only place that decides which path a strategy's loss takes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from remit_lit.data.batch import Batch
from remit_lit.data.columns import of_distributions
from remit_lit.losses import LossKernel, kernel_nll, token_nll, weighted_nll
from remit_lit.models.loss_head import hidden_states, loss_head
from remit_lit.models.token_scores import TokenScores, token_scores
from remit_lit.reference.reference import HiddenStates, LiveReference
from remit_lit.training.distillation import Distillation, distillation_sum
from remit_lit.training.switch import Shares, num_switched, switch_shares, teacher_entropy
from remit_lit.training.top_k_distillation import top_k_distillation_sum
from remit_lit.weighting import TokenSignals, TokenWeighting
from remit_lit.weighting.checks import checked_weights

# Weights of this rank's tokens, [batch, time], where a strategy weighs the micro-batches of all ranks as one.
WeighGlobally = Callable[[TokenWeighting, TokenSignals], Tensor]


@dataclass(frozen=True, eq=False)
class WeighedBefore:
    """One micro-batch of a step that was weighed as a whole.

    Attributes:
        signals: what the strategy saw of it, each [batch, time].
        weights: constants of the loss, [batch, time].
        share: the step's normaliser as a share of its counted tokens, scalar.
    """

    signals: TokenSignals
    weights: Tensor
    share: Tensor


@dataclass(frozen=True)
class WeightedLoss:
    """The loss of one micro-batch before it is divided.

    Attributes:
        total: weighted sum of token losses in nats and ``normalizer`` times the z-loss, with gradient, scalar.
        normalizer: what the sums of all ranks and accumulated micro-batches are divided by, in tokens, scalar.
        nll: of the policy in nats, detached, [batch, time].
        weights: of the tokens, detached, [batch, time].
        signals: what the strategy saw.
    """

    total: Tensor
    normalizer: Tensor
    nll: Tensor
    weights: Tensor
    signals: TokenSignals


def weighted_loss(
    model: nn.Module,
    batch: Batch,
    weighting: TokenWeighting,
    *,
    neutral_ids: Tensor,
    reference_nll: Tensor | None = None,
    reference_entropy: Tensor | None = None,
    base_nll: Tensor | None = None,
    progress: float = 0.0,
    z_loss: float = 0.0,
    distillation: Distillation | None = None,
    teacher: LiveReference | None = None,
    weigh_globally: WeighGlobally | None = None,
    before: WeighedBefore | None = None,
    compiled: bool = False,
    kernel: LossKernel | None = None,
) -> WeightedLoss:
    """Forward pass, weights, and the weighted sum of losses.

    Weights that are known before, and those that are constants and depend on their own row only, take one pass, while
    a row's logits are at hand (``weighted_nll``). All others need every NLL first, and recompute the logits in backward
    (``token_nll``), as the kernels of other packages do.

    The z-loss is a mean over all counted tokens, which neither weights nor the distillation's alpha touch. Since the
    total is divided by the normaliser later, it enters times the normaliser's share of the counted tokens: of the step
    where a first pass found it, of the micro-batch otherwise.

    Args:
        model: the policy.
        batch: from the data module.
        weighting: the strategy.
        neutral_ids: ids of tokens that get weight 1, int64 [ids].
        reference_nll: of the frozen reference, nats, [batch, time].
        reference_entropy: of its distribution over the next token, nats, [batch, time]; where the strategy reads it.
        base_nll: stands for the policy's NLL in the strategy's comparison, nats, [batch, time].
        progress: share of the run's steps that are done.
        z_loss: coefficient of the mean squared log-normaliser.
        distillation: settings of the distillation term.
        teacher: the live reference that the policy is distilled from, where no column takes its place.
        weigh_globally: how strategies of wider scope weigh; None takes this micro-batch alone.
        before: what a first pass over the step found of this micro-batch; takes the place of ``reference_nll``,
            ``reference_entropy`` and ``base_nll``.
        compiled: the softmax and its gradient by torch.compile.
        kernel: whose kernel gives the NLLs, where nothing else of the logits is asked for; None takes our functions.
    """
    targets = batch.targets
    hidden, head = hidden_states(model, batch.inputs, packed=batch.packed), loss_head(model)
    unknown = torch.zeros_like(targets, dtype=torch.float32)
    with_entropy = "policy_entropy" in weighting.signals and before is None
    if before is not None:
        seen = before.signals
    else:
        policy = TokenScores(unknown if base_nll is None else base_nll)
        reference = TokenScores(reference_nll, reference_entropy)
        seen = signals_of(batch, weighting, policy, reference, neutral_ids, progress)

    def compared(signals: TokenSignals, nll: Tensor, entropy: Tensor | None = None) -> TokenSignals:
        if before is not None:
            return signals
        known = signals if base_nll is not None else replace(signals, policy_nll=nll)
        return replace(known, policy_entropy=entropy)

    has_teacher = distillation is not None and (teacher is not None or distillation.column is not None)
    alpha = distillation.alpha_at(progress) if distillation is not None and has_teacher else 0.0
    lesson, shares = None, Shares(1 - alpha, alpha)
    if distillation is not None and distillation.switch is not None and teacher is not None and alpha > 0:
        lesson = teacher.hidden_states(batch)
        certainty = teacher_entropy(lesson, targets, distillation.temperature)
        shares = switch_shares(certainty, batch.mask, _counted(batch), distillation.switch, alpha)
    if kernel is not None:
        nll = head(hidden, lambda h, w, b: kernel_nll(kernel, h, w, targets, bias=b))
        signals, entropy = compared(seen, nll.detach() if weighting.detach else nll), None
        weights = _weigh(weighting, signals, weigh_globally) if before is None else before.weights
        total = (shares.own * weights * nll).sum()
    elif before is not None or takes_one_pass(weighting, z_loss):
        coefficient = z_loss if before is None or z_loss == 0 else z_loss * before.share
        collected: list[Tensor] = []
        entropies: list[Tensor] = []

        def weigh(rows: slice, nll: Tensor, *entropy: Tensor) -> Tensor:
            entropies.extend(entropy)
            if before is not None:
                collected.append(before.weights[rows])
            else:
                signals = compared(seen.each(lambda values: values[rows]), nll, *entropy)
                collected.append(checked_weights(weighting, signals))
            own = shares.own[rows] if isinstance(shares.own, Tensor) else shares.own
            return own * collected[-1]

        options: dict[str, Any] = {"z_loss": coefficient, "with_entropy": with_entropy, "compiled": compiled}
        total, nll = head(hidden, lambda h, w, b: weighted_nll(h, w, targets, weigh, bias=b, **options))
        weights, entropy = torch.cat(collected), torch.cat(entropies) if entropies else None
    else:
        wanted = {"return_log_normalizer": True, "return_entropy": with_entropy, "compiled": compiled}
        found = head(hidden, lambda h, w, b: token_nll(h, w, targets, bias=b, **wanted))
        nll, log_normalizer, entropy = (*found, None)[:3]
        signals = compared(seen, nll.detach() if weighting.detach else nll, entropy)
        weights = _weigh(weighting, signals, weigh_globally)
        share = weighting.normalizer(weights.detach(), seen.mask) / seen.mask.sum().clamp(min=1)
        total = (shares.own * weights * nll).sum() + z_loss * share * log_normalizer.square().sum()
    nll, weights = nll.detach(), weights.detach()
    normalizer = weighting.normalizer(weights, seen.mask).to(total.dtype)
    if distillation is not None and alpha > 0:
        if lesson is None and distillation.column is None and teacher is not None:
            lesson = teacher.hidden_states(batch)  # not before: the loss of the data is at its peak without them
        total = total + _divergence(shares.taught * weights, hidden, head, batch, distillation, lesson)
    return WeightedLoss(total, normalizer, nll, weights, compared(seen, nll, entropy))


def _weigh(weighting: TokenWeighting, signals: TokenSignals, weigh_globally: WeighGlobally | None) -> Tensor:
    weigh_all = checked_weights if weigh_globally is None or weighting.scope == "row" else weigh_globally
    return weigh_all(weighting, signals)


def policy_scores(model: nn.Module, batch: Batch, *, with_entropy: bool = False) -> TokenScores:
    """What the policy makes of each target; its NLL is differentiable."""
    hidden = hidden_states(model, batch.inputs, packed=batch.packed)
    return token_scores(model, hidden, batch.targets, with_entropy=with_entropy)


def policy_nll(model: nn.Module, batch: Batch) -> Tensor:
    """NLL of each target under the policy in nats, differentiable, [batch, time]."""
    nll = policy_scores(model, batch).nll
    assert nll is not None
    return nll


def signals_of(
    batch: Batch,
    weighting: TokenWeighting,
    policy: TokenScores,
    reference: TokenScores,
    neutral_ids: Tensor,
    progress: float,
) -> TokenSignals:
    """What a strategy sees of a batch; ``neutral_ids`` are of tokens that get weight 1, [ids]."""
    assert policy.nll is not None
    return TokenSignals(
        policy_nll=policy.nll,
        mask=batch.mask,
        reference_nll=reference.nll,
        segment_ids=batch.segment_ids,
        neutral=torch.isin(batch.targets, neutral_ids),
        targets=batch.targets,
        policy_entropy=policy.entropy,
        reference_entropy=reference.entropy,
        columns={name: batch.nll(name) for name in weighting.columns},
        progress=progress,
        is_checked=True,
    )


def takes_one_pass(weighting: TokenWeighting, z_loss: float) -> bool:
    """Whether gradients can be made row by row: neither the weights nor the z-loss's share wait for other rows."""
    divides_by_counted = type(weighting).normalizer is TokenWeighting.normalizer
    return weighting.scope == "row" and weighting.detach and (z_loss == 0 or divides_by_counted)


def _divergence(
    weights: Tensor,
    hidden: Tensor,
    head: nn.Module,
    batch: Batch,
    settings: Distillation,
    lesson: HiddenStates | None,
) -> Tensor:
    known = batch.num_counted if settings.switch is None else num_switched(_counted(batch), settings.switch)

    def divergence(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if lesson is None:
            assert settings.column is not None
            top = batch.top_tokens(of_distributions(settings.column))
            return top_k_distillation_sum(hidden, (weight, bias), top, weights, settings, known)
        return distillation_sum(hidden, (weight, bias), *lesson, weights, settings, known)

    total: Tensor = head(hidden, divergence)
    return total


def _counted(batch: Batch) -> int:
    """How many tokens have a target; of a batch that nobody counted, the host waits for the device."""
    return int(batch.mask.sum()) if batch.num_counted is None else batch.num_counted
