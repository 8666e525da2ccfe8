"""The length of a run, how the learning rate anneals over it, and the optimizer's parameters and their gradients."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import Tensor, nn
from torch.optim import Optimizer

from remit_lit.errors import ConfigError, require_at_least, require_range
from remit_lit.models.shards import size_of


@dataclass
class Horizon:
    """How long the run is; the schedule ends there.

    Attributes:
        steps: optimizer steps. Give either this or tokens.
        tokens: tokens over all ranks, rounded down to whole steps; stays the same when the batch size changes.
    """

    steps: int | None = None
    tokens: int | None = None

    def check(self) -> None:
        """Raise ConfigError unless exactly one of steps and tokens is a positive number."""
        if (self.steps is None) == (self.tokens is None):
            raise ConfigError(
                f"model.horizon: got steps={self.steps} and tokens={self.tokens}; give exactly one of them"
            )
        if (self.steps or self.tokens or 0) < 1:
            raise ConfigError(f"model.horizon: got {self.steps or self.tokens or 0}; give at least 1")

    @property
    def field(self) -> str:
        """Dotted path of the field that gives the length."""
        return "model.horizon.tokens" if self.steps is None else "model.horizon.steps"

    def in_steps(self, tokens_per_step: int) -> int:
        """Optimizer steps, given the tokens that one step trains on over all ranks.

        Raises:
            ConfigError: the budget is less than one step.
        """
        if self.steps is not None:
            return self.steps
        steps = (self.tokens or 0) // tokens_per_step
        if steps < 1:
            raise ConfigError(
                f"model.horizon.tokens: got {self.tokens}, less than one step of {tokens_per_step} tokens"
            )
        return steps


class Schedule(ABC):
    """The learning rate as a share of its peak.

    Args:
        warmup_steps: optimizer steps over which the rate first rises linearly; a few help a fresh optimizer.
    """

    def __init__(self, warmup_steps: int = 0) -> None:
        require_at_least("model.schedule.warmup_steps", warmup_steps, 0)
        self.warmup_steps = warmup_steps

    def check(self, steps: int, horizon: str = "") -> None:
        """Refuse a warm-up that does not end within the run.

        Args:
            steps: optimizer steps of the run.
            horizon: dotted path of the field that says so.

        Raises:
            ConfigError: naming the warm-up.
        """
        if self.warmup_steps >= steps:
            raise ConfigError(
                f"model.schedule.warmup_steps: got {self.warmup_steps}; give less than the horizon of {steps} steps",
                beside=horizon,
            )

    def factor(self, step: int, steps: int) -> float:
        """Share of the peak at ``step`` (from 0) of ``steps``."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        return self.decay(min(1.0, (step - self.warmup_steps) / max(1, steps - self.warmup_steps)))

    @abstractmethod
    def decay(self, elapsed: float) -> float:
        """Share of the peak at ``elapsed`` in [0, 1] between the end of the warm-up and the horizon."""


class Linear(Schedule):
    """From the peak in a straight line to ``final``. To zero is OLMo 2's stage 2.

    Args:
        warmup_steps: optimizer steps over which the rate first rises linearly; a few help a fresh optimizer.
        final: learning rate at the horizon as a share of its peak, in [0, 1]; above 0 where training is to go on.
    """

    def __init__(self, warmup_steps: int = 0, final: float = 0.0) -> None:
        super().__init__(warmup_steps)
        require_range("model.schedule.final", final, 0.0, 1.0, include_low=True)
        self.final = final

    def decay(self, elapsed: float) -> float:
        return 1 - (1 - self.final) * elapsed


class Cosine(Linear):
    """From the peak along half a cosine to ``final``, as in RHO-1's continual pre-training.

    Args:
        warmup_steps: optimizer steps over which the rate first rises linearly; a few help a fresh optimizer.
        final: learning rate at the horizon as a share of its peak, in [0, 1]; above 0 where training is to go on.
    """

    def decay(self, elapsed: float) -> float:
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * elapsed)) / 2


class WSDDecay(Linear):
    """Warm-up, stable, decay: the peak is held, then falls linearly over the last part (MiniCPM, arXiv:2404.06395).

    Args:
        warmup_steps: optimizer steps over which the rate first rises linearly; a few help a fresh optimizer.
        final: learning rate at the horizon as a share of its peak, in [0, 1]; above 0 where training is to go on.
        decay_share: part of the steps after the warm-up over which the rate falls, in (0, 1].
    """

    def __init__(self, warmup_steps: int = 0, final: float = 0.0, decay_share: float = 1.0) -> None:
        super().__init__(warmup_steps, final)
        require_range("model.schedule.decay_share", decay_share, 0.0, 1.0)
        self.decay_share = decay_share

    def decay(self, elapsed: float) -> float:
        return super().decay(max(0.0, (elapsed - 1 + self.decay_share) / self.decay_share))


OptimizerCallable = Callable[[Iterable[Any]], Optimizer]
NoDecay = Literal["embeddings", "vectors"]


def check_optimizer(optimizer: OptimizerCallable) -> None:
    """Raise ConfigError for arguments that the optimizer refuses, found by building one for a single parameter."""
    try:
        optimizer([nn.Parameter(torch.zeros(1))])
    except (ValueError, TypeError) as error:
        raise ConfigError(f"model.optimizer: {error}") from error


def check_length(trainer: pl.Trainer, horizon: Horizon, schedule: Schedule, tokens_per_step: int) -> int:
    """The run's optimizer steps; raises ConfigError where the trainer's own limits or the warm-up do not fit them."""
    if trainer.max_epochs != 1:
        raise ConfigError(f"trainer.max_epochs: got {trainer.max_epochs}; give 1: a run's length is model.horizon")
    steps = horizon.in_steps(tokens_per_step)
    schedule.check(steps, horizon.field)
    if trainer.max_steps > steps:
        raise ConfigError(
            f"trainer.max_steps: got {trainer.max_steps}; give at most the horizon of {steps} steps", horizon.field
        )
    return steps


def clip_gradients(
    optimizer: Optimizer,
    norm: Tensor,
    gradient_clip_val: float | None = None,
    gradient_clip_algorithm: str | None = None,
) -> None:
    """Clip the gradients of what an optimizer trains.

    Args:
        optimizer: of any kind, a fused one too: nothing is unscaled in its step, since fp16 is refused.
        norm: 2-norm of the gradients, scalar.
        gradient_clip_val: highest norm, or highest absolute value of an element; None leaves them as they are.
        gradient_clip_algorithm: value, or else norm.
    """
    if not gradient_clip_val:
        return
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if gradient_clip_algorithm == GradClipAlgorithmType.VALUE:
        nn.utils.clip_grad_value_(parameters, gradient_clip_val)
    else:
        nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)


def scale_gradients(gradients: Sequence[Tensor], factor: Tensor) -> None:
    """Multiply gradients of any type by ``factor``, a float64 scalar, in float32, without a wait for its value."""
    single = [gradient for gradient in gradients if gradient.dtype == torch.float32]
    if single:
        torch._foreach_mul_(single, factor.float())
    for gradient in gradients:
        if gradient.dtype != torch.float32:
            # A scalar tensor would be rounded to the gradient's type first; one of a dimension is not.
            torch.mul(gradient, factor.to(torch.promote_types(gradient.dtype, torch.float32))[None], out=gradient)


def leaves_steps_out(optimizer: Optimizer) -> bool:
    """Whether the optimizer looks itself, on the device, at ``found_inf``: torch's with ``fused: true`` do."""
    return getattr(optimizer, "_step_supports_amp_scaling", False)


def parameter_groups(model: nn.Module, no_decay: Sequence[NoDecay]) -> list[dict[str, Any]]:
    """Two groups: parameters that decay as the optimizer says, and those named by ``no_decay`` with decay 0.

    Args:
        model: the policy.
        no_decay: "embeddings" (input embeddings, and output ones tied to them), "vectors" (norms and biases).
    """
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    exempt: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        is_exempt = ("embeddings" in no_decay and id(parameter) in embeddings) or (
            "vectors" in no_decay and len(size_of(parameter)) < 2
        )
        (exempt if is_exempt else decayed).append(parameter)
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": exempt, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
