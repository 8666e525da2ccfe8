"""A first pass, without gradient, over an optimizer step, for strategies that weigh the whole step at once."""

from collections.abc import Sequence

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor, nn

from remit_lit.data.batch import Batch
from remit_lit.evaluation.isolation import isolated
from remit_lit.models.token_scores import TokenScores
from remit_lit.reference.reference import Reference
from remit_lit.training.engines import global_weights, summed
from remit_lit.training.objective import WeighedBefore, policy_scores, signals_of
from remit_lit.training.stopwatch import Stopwatch
from remit_lit.weighting import TokenSignals, TokenWeighting


class FirstPass:
    """Weigh the tokens of an optimizer step before its micro-batches are trained on.

    The policy is in evaluation mode, so that dropout neither moves the weights nor draws the random numbers of
    training. Each frozen model is asked once: training takes its NLLs from here.

    Args:
        weighting: a strategy of scope "step".
        reference: the frozen model that it compares with.
        base: stands for the policy in that comparison, which then makes no pass.

    Attributes:
        watch: what it has taken so far.
    """

    def __init__(self, weighting: TokenWeighting, reference: Reference | None, base: Reference | None) -> None:
        self.weighting = weighting
        self.reference, self.base = (reference, base) if weighting.needs_reference else (None, None)
        self.watch = Stopwatch()

    def __call__(
        self, policy: nn.Module, batches: Sequence[Batch], neutral_ids: Tensor, strategy: Strategy, progress: float
    ) -> list[WeighedBefore]:
        """The micro-batches of a step on this rank, weighed among those of all ranks.

        Args:
            policy: the model in training.
            batches: its micro-batches of the step, on its device.
            neutral_ids: ids of tokens that get weight 1, int64 [ids].
            strategy: the engine.
            progress: share of the run's steps that are done.
        """
        with self.watch.running(neutral_ids.device), isolated(policy):
            signals = [self._signals(policy, batch, neutral_ids, progress) for batch in batches]
            step = _joined(signals)
            weights = global_weights(strategy, self.weighting, step, len(signals))
            sums = torch.stack([self.weighting.normalizer(weights, step.mask).double(), step.mask.sum().double()])
            normalizer, counted = summed(strategy, sums)
        share = normalizer / counted.clamp(min=1)
        return [WeighedBefore(*pair, share) for pair in zip(signals, weights.chunk(len(signals)), strict=True)]

    def _signals(self, policy: nn.Module, batch: Batch, neutral_ids: Tensor, progress: float) -> TokenSignals:
        asked = self.weighting.signals
        scores, reference = TokenScores(None), TokenScores(None)
        if self.base is None or "policy_entropy" in asked:
            scores = policy_scores(policy, batch, with_entropy="policy_entropy" in asked)
        if self.base is not None:
            scores = scores._replace(nll=self.base.nll(batch))
        if self.reference is not None:
            reference = self.reference.scores(batch, with_entropy="reference_entropy" in asked)
        return signals_of(batch, self.weighting, scores, reference, neutral_ids, progress)

    def summary(self, seconds: float) -> str:
        """What it has taken of ``seconds`` of training, in words."""
        taken = self.watch.seconds
        return f"first pass over each step, to weigh it: {taken:.1f} s, {taken / seconds:.0%} of training"


def _joined(signals: Sequence[TokenSignals]) -> TokenSignals:
    """Those of all micro-batches as if they were of one."""
    joined = iter([torch.cat(values) for values in zip(*(part.tensors.values() for part in signals), strict=True)])
    return signals[0].each(lambda _: next(joined))
