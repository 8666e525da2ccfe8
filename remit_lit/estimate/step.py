"""Memory of one training step: the step of ``fit`` itself, computed with tensors that have shapes and no values."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Protocol
from unittest import mock

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import masking_utils

from remit_lit.data.batch import Batch, ids_of
from remit_lit.data.columns import of_distributions
from remit_lit.errors import ConfigError
from remit_lit.estimate.tracker import NEEDS_VALUES, Bytes, MemoryTracker
from remit_lit.losses import arithmetic, head
from remit_lit.models.loss_head import Recomputed, loss_head, recompute_activations
from remit_lit.models.spec import Dtype, ModelSpec
from remit_lit.reference.reference import InitialPolicy, LiveReference, Reference
from remit_lit.training.distillation import Distillation
from remit_lit.training.frozen import FrozenModels
from remit_lit.training.objective import takes_one_pass, weighted_loss
from remit_lit.training.optimization import NoDecay, OptimizerCallable, parameter_groups
from remit_lit.weighting import TokenSignals, TokenWeighting

WEIGHTS, GRADIENTS, STATES = "weights", "gradients", "optimizer states"
REFERENCE, INITIAL = "live reference", "initial policy"
ACTIVATIONS, LOSS, BACKWARD = "activations", "loss", "backward"
UPDATE = "optimizer step"
RESIDENT = (WEIGHTS, GRADIENTS, STATES, REFERENCE, INITIAL)
COMPUTED = (ACTIVATIONS, LOSS, BACKWARD)
_ELSEWHERE = "on another device"
# Of a column of most likely tokens, which may not be there yet; few beside a vocabulary.
_TOP_K = 64


class StepSettings(Protocol):
    """The settings of ``fit`` that the memory of a step depends on.

    Attributes:
        spec: the policy.
        optimizer: builds the optimizer from groups of parameters.
        no_decay: parameters without weight decay.
        weighting: the strategy.
        frozen: the frozen models of the config.
        distillation: the distillation term.
        z_loss: coefficient of the squared log-normaliser.
    """

    spec: ModelSpec
    optimizer: OptimizerCallable
    no_decay: list[NoDecay]
    weighting: TokenWeighting
    frozen: FrozenModels
    distillation: Distillation | None
    z_loss: float


@dataclass(frozen=True)
class Workload:
    """What one process does in a step, beside the model.

    Attributes:
        batch_size: rows of a micro-batch.
        sequence_length: tokens in a row.
        document_attention: documents are kept apart, for which SDPA and eager attention hold a mask of
            [batch, 1, time, time].
        accumulates: gradients of earlier micro-batches are there during backward.
        foreach: torch optimizers update all parameters at once, their default on a GPU.
        chooses_rows: the strategy chooses rows before training.
    """

    batch_size: int
    sequence_length: int
    document_attention: bool = True
    accumulates: bool = False
    foreach: bool = True
    chooses_rows: bool = False


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one process that nothing is partitioned over, by part.

    Attributes:
        resident: what is there all the time: weights, gradients, optimizer states, frozen models.
        peak: everything, at the moment of the step at which it is most. Without accumulation, gradients are
            freed before the forward pass.
        computed: activations, loss and temporaries of backward, at the moment at which they are most.
        update: temporaries of the optimizer, and what is left of the loss while it steps.
        activations: kept for backward when the last hidden states are there.
        choosing: weights of the policy and of the frozen models that choose rows before training; 0 if none do.
    """

    resident: Bytes
    peak: Bytes
    computed: Bytes
    update: Bytes
    activations: int
    choosing: int


def measure_step(
    settings: StepSettings, workload: Workload, dtype: Dtype, *, autocast: bool, checkpointing: Recomputed
) -> StepMemory:
    """Compute a training step without data or weights, and count what it holds.

    The second step counts: gradients and optimizer states are there from the first. The strategy is replaced by one of
    even weights that takes the same path through the loss.

    Args:
        settings: of the run.
        workload: shapes and what the process does.
        dtype: of the policy's weights.
        autocast: matrix products are in bfloat16 (bf16-mixed).
        checkpointing: which activations are recomputed in backward.

    Raises:
        ConfigError: a model or the optimizer decides on values, so that it cannot be computed without them.
    """
    tracker = MemoryTracker()
    try:
        with tracker.fake_tensors(), _without_values(settings.spec, workload):
            return _Step(settings, workload, tracker, dtype, checkpointing).run(autocast=autocast)
    except NEEDS_VALUES as error:
        raise ConfigError(f"model: a step of it cannot be computed without values ({error})") from error


class _Step:
    def __init__(
        self,
        settings: StepSettings,
        workload: Workload,
        tracker: MemoryTracker,
        dtype: Dtype,
        checkpointing: Recomputed,
    ) -> None:
        self.settings, self.workload, self.tracker = settings, workload, tracker
        self.batch, self.activations = _batch(workload, settings.distillation), 0
        tracker.begin(WEIGHTS)
        self.policy = _without_flash(replace(settings.spec, dtype=dtype)).build_empty("model.policy").train()
        recompute_activations(self.policy, checkpointing)
        self.references = {frozen: self._outline(frozen) for frozen in live(settings.frozen.needed(chooses_rows=False))}
        self.optimizer = _optimizer(settings, self.policy, foreach=workload.foreach)

    def run(self, *, autocast: bool) -> StepMemory:
        tracker, parameters = self.tracker, list(self.policy.parameters())
        tracker.begin(GRADIENTS)
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
            parameter.register_post_accumulate_grad_hook(self._gradient_is_there)
        tracker.begin(STATES)
        self.optimizer.step()
        resident = {part: tracker.live[part] for part in RESIDENT}
        loss_head(self.policy).register_forward_pre_hook(self._hidden_states_are_there)
        peak, computed = tracker.watch(*RESIDENT, *COMPUTED, UPDATE), tracker.watch(*COMPUTED)
        if not self.workload.accumulates:
            self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = self._loss()
        tracker.begin(BACKWARD)
        loss.backward()
        update = tracker.watch(*COMPUTED, UPDATE)
        tracker.begin(UPDATE)
        self.optimizer.step()
        return StepMemory(resident, peak(), computed(), update(), self.activations, self._choosing())

    def _outline(self, frozen: LiveReference) -> "_Outline":
        outline = _Outline(frozen, self.settings.spec)
        self.tracker.begin(part_of(frozen))
        outline.load(self.settings.spec, torch.device("cpu"))
        return outline

    def _choosing(self) -> int:
        if not self.workload.chooses_rows:
            return 0
        choosing = live(self.settings.frozen.needed(chooses_rows=True))
        loaded = [self._outline(frozen) for frozen in choosing if frozen not in self.references]
        total = sum(self.tracker.live[part] for part in (WEIGHTS, REFERENCE, INITIAL))
        del loaded
        return total

    def _loss(self) -> Tensor:
        for frozen, outline in self.references.items() if self.settings.weighting.needs_reference else ():
            self.tracker.begin(LOSS if frozen.device is None else _ELSEWHERE)
            outline.nll(self.batch)
        self.tracker.begin(ACTIVATIONS)
        loss = weighted_loss(
            self.policy,
            self.batch,
            _UniformWeights(self.settings.weighting, self.settings.z_loss),
            neutral_ids=torch.zeros(2, dtype=torch.long),
            z_loss=self.settings.z_loss,
            distillation=self.settings.distillation,
            teacher=self.references.get(self.settings.frozen.reference),  # type: ignore[call-overload]
        )
        return loss.total / loss.weights.numel()

    def _hidden_states_are_there(self, *_: object) -> None:
        self.activations = self.tracker.live[ACTIVATIONS]
        self.tracker.begin(LOSS)

    def _gradient_is_there(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self.tracker.assign(parameter.grad, GRADIENTS)


class _Outline(LiveReference):
    """A frozen model of which only the shapes are there."""

    def __init__(self, frozen: LiveReference, policy: ModelSpec) -> None:
        super().__init__(spec_of(frozen, policy))
        self.field = frozen.field

    def load(self, policy: ModelSpec, device: torch.device) -> None:
        self._model = _without_flash(self.spec).build_empty(self.field).requires_grad_(False)


class _UniformWeights(TokenWeighting):
    def __init__(self, strategy: TokenWeighting, z_loss: float) -> None:
        # Weights of a whole step are known beforehand, and take the path of those that depend on their own row.
        is_one_pass = strategy.scope == "step" or takes_one_pass(strategy, z_loss)
        self.scope, self.detach = "row" if is_one_pass else "batch", strategy.detach

    def weights(self, signals: TokenSignals) -> Tensor:
        return signals.mask.float()


def live(references: Sequence[Reference]) -> list[LiveReference]:
    """Those that are models and no score columns."""
    return [reference for reference in references if isinstance(reference, LiveReference)]


def spec_of(reference: LiveReference, policy: ModelSpec) -> ModelSpec:
    """What a live frozen model is loaded from."""
    return policy if isinstance(reference, InitialPolicy) else reference.spec


def part_of(reference: LiveReference) -> str:
    """Which part a live frozen model's memory belongs to."""
    if reference.device is not None:
        return _ELSEWHERE
    return INITIAL if isinstance(reference, InitialPolicy) else REFERENCE


def _batch(workload: Workload, distillation: Distillation | None) -> Batch:
    shape = workload.batch_size, workload.sequence_length

    def zeros() -> Tensor:
        return torch.zeros(shape, dtype=torch.long)

    scores = {}
    if distillation is not None and distillation.column is not None:
        name = of_distributions(distillation.column)
        scores = {each: torch.zeros(*shape, _TOP_K, dtype=torch.int32) for each in (name, ids_of(name))}
    rows = torch.zeros(workload.batch_size, dtype=torch.long)
    return Batch(zeros(), zeros(), zeros(), zeros(), zeros(), rows, scores)


def _without_flash(spec: ModelSpec) -> ModelSpec:
    """Flash and flex attention keep what SDPA keeps without a mask, and are not there on every machine."""
    return spec if spec.attn_implementation == "eager" else replace(spec, attn_implementation="sdpa")


@contextmanager
def _without_values(spec: ModelSpec, workload: Workload) -> Iterator[None]:
    """Let code that would look at values take the way that it takes in the run."""
    with ExitStack() as stack:
        if not workload.document_attention or spec.attn_implementation not in ("sdpa", "eager"):
            # transformers makes a mask wherever it cannot read the positions.
            none = mock.patch.object(masking_utils, "find_packed_sequence_indices", return_value=None)
            stack.enter_context(none)
        # As on a GPU, whose products of halves are float32 without wider copies of them.
        stack.enter_context(mock.patch.object(head, "keeps_sums", return_value=True))
        # The loss works through a large vocabulary in thousands of pieces too small to count.
        stack.enter_context(mock.patch.object(arithmetic, "COPIED_LOGITS", sys.maxsize))
        yield


def _optimizer(settings: StepSettings, policy: nn.Module, *, foreach: bool) -> Optimizer:
    optimizer = settings.optimizer(parameter_groups(policy, settings.no_decay))
    for group in optimizer.param_groups:
        if foreach and group.get("foreach", False) is None and not group.get("fused"):
            group["foreach"] = True
    return optimizer
