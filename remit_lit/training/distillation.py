"""Knowledge distillation over the full vocabulary, an optional term beside any weighting."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from remit_lit.errors import ConfigError, not_among, require_range

Divergence = Literal["forward_kl", "reverse_kl", "jensen_shannon"]
AlphaSchedule = Literal["constant", "linear", "cosine"]


@dataclass
class Distillation:
    """Each token's loss becomes ``(1 - alpha) * nll + alpha * T^2 * D(reference, policy)``, and is weighed as it was.

    ``D`` is a divergence of the two distributions over the vocabulary; of the forward KL the cross-entropy is taken,
    whose gradient is the same. ``T`` is the temperature of both softmaxes, whose gradients shrink with ``1 / T^2``; the
    factor keeps the balance of the two terms whatever it is (Hinton et al., arXiv:1503.02531, section 2). With
    next-token prediction, the forward KL and ``T = 1`` this is MiniPLM's baseline (arXiv:2410.17215).

    Attributes:
        alpha: share of the distillation term in the loss, in (0, 1]; 1 leaves out the data's own tokens. MiniPLM's
            baseline: 0.5. With a schedule it is the share at the start, which may be 0.
        divergence: forward_kl, ``KL(reference || policy)``, covers all that the reference may say (MiniPLM's baseline);
            reverse_kl, ``KL(policy || reference)``, keeps to what it most often says (MiniLLM, arXiv:2306.08543);
            jensen_shannon, the mean of both models' KL to their mixture, is bounded by log 2 (GKD, arXiv:2306.13649,
            with its beta of 0.5).
        temperature: softmax temperature of both models, > 0; higher ones teach more of the unlikely tokens. MiniPLM's
            baseline: 1.
        chunk_tokens: tokens whose logits of both models exist at the same time; fewer take less memory.
        alpha_schedule: how the share goes from alpha to final_alpha over the run: constant stays at alpha; linear in a
            straight line; cosine along half a cosine, which is slow at both ends. Where it is 0 the teacher rests.
        final_alpha: the share at the horizon, in [0, 1]; needs a schedule that is not constant.
        column: the teacher's most likely tokens beside the rows, as ``score --top_k`` wrote them, in place of a live
            reference; all other tokens count as one. Needs temperature 1, which they were scored at.
        switch: share of a micro-batch's tokens, those of the teacher's lowest entropy, in (0, 1], that are distilled;
            the others learn from the data alone, and each part is a mean over its own tokens (Switch Distillation,
            arXiv:2609.01532: 0.2, with reverse_kl at temperature 2). null: both terms of every token. Needs a live
            reference.

    Raises:
        ConfigError: a value is out of its range, there is a schedule without final_alpha or the other way round, or a
            switch with a column.
    """

    alpha: float = 0.5
    temperature: float = 1.0
    chunk_tokens: int = 1024
    divergence: Divergence = "forward_kl"
    alpha_schedule: AlphaSchedule = "constant"
    final_alpha: float | None = None
    column: str | None = None
    switch: float | None = None

    def __post_init__(self) -> None:
        for field, kinds in (("divergence", get_args(Divergence)), ("alpha_schedule", get_args(AlphaSchedule))):
            if getattr(self, field) not in kinds:
                raise ConfigError(f"model.distillation.{field}: {not_among(getattr(self, field), kinds)}")
        self._check_alpha()
        require_range("model.distillation.temperature", self.temperature, 0.0, float("inf"))
        if self.column is not None and self.temperature != 1:
            raise ConfigError(
                f"model.distillation.temperature: got {self.temperature}, but a column holds probabilities at "
                "temperature 1; give 1, or a live reference in place of model.distillation.column"
            )
        if self.switch is not None:
            require_range("model.distillation.switch", self.switch, 0.0, 1.0)
            if self.column is not None:
                raise ConfigError(
                    f"model.distillation.switch: got {self.switch} with a column, which does not hold the teacher's "
                    "entropy; give a live reference in place of model.distillation.column"
                )

    def _check_alpha(self) -> None:
        is_constant = self.alpha_schedule == "constant"
        require_range("model.distillation.alpha", self.alpha, 0.0, 1.0, include_low=not is_constant)
        field = "model.distillation.final_alpha"
        if self.final_alpha is None:
            if not is_constant:
                raise ConfigError(
                    f"{field}: missing, and alpha_schedule is {self.alpha_schedule}; give a number in [0, 1]"
                )
            return
        require_range(field, self.final_alpha, 0.0, 1.0, include_low=True)
        if is_constant:
            raise ConfigError(f"{field}: got {self.final_alpha}, and alpha_schedule is constant; give linear or cosine")
        if self.alpha == self.final_alpha == 0:
            raise ConfigError(
                f"{field}: got 0, and alpha is 0 too, so that nothing is distilled; leave distillation out"
            )

    def alpha_at(self, progress: float) -> float:
        """Share of the distillation term where ``progress`` in [0, 1] of the run's steps is done."""
        if self.final_alpha is None:
            return self.alpha
        done = progress if self.alpha_schedule == "linear" else (1 - math.cos(math.pi * progress)) / 2
        return self.alpha + (self.final_alpha - self.alpha) * done

    def __str__(self) -> str:
        """Its share, in words."""
        if self.final_alpha is None:
            return f"alpha {self.alpha}"
        return f"alpha from {self.alpha} to {self.final_alpha} ({self.alpha_schedule})"


def weighed_places(weights: Tensor, num_counted: int | None) -> Tensor:
    """Places of the tokens that have a weight, in the flattened batch, int64 [tokens].

    Args:
        weights: of the tokens, [batch, time].
        num_counted: at most how many have one, which is then the length of the result; None looks for them, for which
            the host waits for the device.
    """
    if num_counted is None:
        return weights.flatten().nonzero()[:, 0]
    without = (weights.flatten() == 0).to(torch.uint8)
    return without.argsort(stable=True)[:num_counted]  # those with a weight come first, each in their order


def distillation_sum(
    hidden: Tensor,
    head: tuple[Tensor, Tensor | None],
    teacher_hidden: Tensor,
    teacher_head: tuple[Tensor, Tensor | None],
    weights: Tensor,
    settings: Distillation,
    num_counted: int | None = None,
) -> Tensor:
    """Weighted sum of ``T^2`` times the divergence of each token, a scalar in nats with gradient.

    Of the forward KL it takes ``-sum_v p_teacher(v) * log p_student(v)``, which has no term of the teacher alone.

    The logits of a chunk are dropped after use and computed again in backward. Vocabularies padded to different sizes
    are compared over their common ids.

    Args:
        hidden: of the student, [batch, time, dim].
        head: its output embedding [vocab, dim] and bias [vocab].
        teacher_hidden: of the frozen teacher, [batch, time, teacher_dim].
        teacher_head: its output embedding and bias.
        weights: of the tokens, constants, [batch, time].
        settings: temperature and chunk size.
        num_counted: see :func:`weighed_places`.
    """
    vocab = min(len(head[0]), len(teacher_head[0]))
    weighed = weighed_places(weights, num_counted)
    student, teacher = hidden.flatten(0, -2)[weighed], teacher_hidden.flatten(0, -2)[weighed]  # [tokens, dim]
    weights = weights.flatten()[weighed]

    def logits(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        scores = torch.nn.functional.linear(states, weight[:vocab], None if bias is None else bias[:vocab])
        return scores.float() / settings.temperature

    divergence = DIVERGENCES[settings.divergence]

    def chunk(states: Tensor, teacher_states: Tensor, weights: Tensor) -> Tensor:
        with torch.no_grad():
            target = logits(teacher_states, *teacher_head)
        return (weights * divergence(target, logits(states, *head).log_softmax(-1))).sum()

    pieces = zip(*(values.split(settings.chunk_tokens) for values in (student, teacher, weights)), strict=True)
    sums = [checkpoint(chunk, *piece, use_reentrant=False) for piece in pieces]
    return settings.temperature**2 * torch.stack(sums).sum() if sums else hidden.sum() * 0.0


def _forward(teacher: Tensor, student: Tensor) -> Tensor:
    return -(teacher.softmax(-1) * student).sum(-1)


def _reverse(teacher: Tensor, student: Tensor) -> Tensor:
    return (student.exp() * (student - teacher.log_softmax(-1))).sum(-1)


def _jensen_shannon(teacher: Tensor, student: Tensor) -> Tensor:
    teacher = teacher.log_softmax(-1)
    mixture = torch.logaddexp(teacher, student) - math.log(2)
    return 0.5 * (teacher.exp() * (teacher - mixture) + student.exp() * (student - mixture)).sum(-1)


DIVERGENCES: dict[Divergence, Callable[[Tensor, Tensor], Tensor]] = {
    "forward_kl": _forward,
    "reverse_kl": _reverse,
    "jensen_shannon": _jensen_shannon,
}
"""Of the teacher's logits and the student's log-probabilities, [tokens, vocab] each, in nats, [tokens]."""
