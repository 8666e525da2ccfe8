"""Knowledge distillation over the full vocabulary, an optional term beside any weighting."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from remit_lit.errors import require_range


@dataclass
class Distillation:
    """Each token's loss becomes ``(1 - alpha) * nll + alpha * T^2 * CE(reference, policy)``, and is weighed as it was.

    ``T`` is the temperature of both softmaxes, whose gradients shrink with ``1 / T^2``; the factor keeps the balance of
    the two terms whatever it is (Hinton et al., arXiv:1503.02531, section 2). With next-token prediction and ``T = 1``
    this is MiniPLM's baseline (arXiv:2410.17215).

    Attributes:
        alpha: share of the distillation term in the loss, in (0, 1]; 1 leaves out the data's own tokens. MiniPLM's
            baseline: 0.5.
        temperature: softmax temperature of both models, > 0; higher ones teach more of the unlikely tokens. MiniPLM's
            baseline: 1.
        chunk_tokens: tokens whose logits of both models exist at the same time; fewer take less memory.
    """

    alpha: float = 0.5
    temperature: float = 1.0
    chunk_tokens: int = 1024

    def __post_init__(self) -> None:
        require_range("model.distillation.alpha", self.alpha, 0.0, 1.0)
        require_range("model.distillation.temperature", self.temperature, 0.0, float("inf"))


def distillation_sum(
    hidden: Tensor,
    head: tuple[Tensor, Tensor | None],
    teacher_hidden: Tensor,
    teacher_head: tuple[Tensor, Tensor | None],
    weights: Tensor,
    settings: Distillation,
) -> Tensor:
    """Weighted sum of ``-T^2 * sum_v p_teacher(v) * log p_student(v)``, a scalar in nats with gradient.

    The logits of a chunk are dropped after use and computed again in backward. Vocabularies padded to different sizes
    are compared over their common ids.

    Args:
        hidden: of the student, [batch, time, dim].
        head: its output embedding [vocab, dim] and bias [vocab].
        teacher_hidden: of the frozen teacher, [batch, time, teacher_dim].
        teacher_head: its output embedding and bias.
        weights: of the tokens, constants, [batch, time]; those of weight 0 cost nothing.
        settings: temperature and chunk size.
    """
    vocab = min(len(head[0]), len(teacher_head[0]))
    weighed = weights.flatten().nonzero()[:, 0]
    student, teacher = hidden.flatten(0, -2)[weighed], teacher_hidden.flatten(0, -2)[weighed]  # [tokens, dim]
    weights = weights.flatten()[weighed]

    def logits(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        scores = torch.nn.functional.linear(states, weight[:vocab], None if bias is None else bias[:vocab])
        return scores.float() / settings.temperature

    def chunk(states: Tensor, teacher_states: Tensor, weights: Tensor) -> Tensor:
        with torch.no_grad():
            target = logits(teacher_states, *teacher_head).softmax(-1)
        return -(weights * (target * logits(states, *head).log_softmax(-1)).sum(-1)).sum()

    pieces = zip(*(values.split(settings.chunk_tokens) for values in (student, teacher, weights)), strict=True)
    sums = [checkpoint(chunk, *piece, use_reentrant=False) for piece in pieces]
    return settings.temperature**2 * torch.stack(sums).sum() if sums else hidden.sum() * 0.0
