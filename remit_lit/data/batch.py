"""``Batch``: what the data hands to training, scoring and evaluation, each field named once."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from remit_lit.losses import IGNORE_INDEX
from remit_lit.models.top_tokens import TopTokens


@dataclass(eq=False)
class Batch:
    """Packed rows as tensors. Position ``t`` is about the token predicted there: token ``t + 1`` of the row.

    Not frozen: Lightning and its precision plugins rebuild a batch field by field.

    Attributes:
        input_ids: tokens, int64 [batch, time].
        position_ids: place of each token in its document, or in its row where documents see each other, int64
            [batch, time].
        targets: the token predicted at each position, ``IGNORE_INDEX`` where there is none, int64 [batch, time].
        segment_ids: index of the target's document within its row, int64 [batch, time].
        source_ids: index of the target's source in the manifest, int64 [batch, time].
        rows: numbers of the rows in their split, -1 for one that only fills up a rank's share, int64 [batch]; always
            on the host, which reads them at each step.
        scores: by column name, read by :meth:`nll`, [batch, time], and :meth:`top_tokens`. They are float32 nats kept
            as int32, since half-precision plugins cast every float tensor of a batch.
        packed: whether any row holds several documents that do not see each other; None where nobody looked.
        num_counted: tokens that have a target; None where nobody counted.
    """

    input_ids: Tensor
    position_ids: Tensor
    targets: Tensor
    segment_ids: Tensor
    source_ids: Tensor
    rows: Tensor
    scores: dict[str, Tensor] = field(default_factory=dict)
    packed: bool | None = None
    num_counted: int | None = None

    @property
    def mask(self) -> Tensor:
        """True where there is a target, whose loss counts, bool [batch, time]."""
        return self.targets != IGNORE_INDEX

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What a model reads, by the names of its arguments, each int64 [batch, time]."""
        return {"input_ids": self.input_ids, "position_ids": self.position_ids}

    def nll(self, column: str) -> Tensor:
        """NLL of each target in nats by a score column, float32 [batch, time]."""
        return self.scores[column].view(torch.float32)

    def top_tokens(self, column: str) -> TopTokens:
        """The most likely tokens at each position by a column that has them, [batch, time, k]."""
        return TopTokens(self.scores[ids_of(column)].long(), self.scores[column].view(torch.float32))

    def to(self, device: torch.device) -> "Batch":
        """The same on ``device``, but for ``rows``; copied to a GPU from pinned memory, which nothing waits for."""
        is_cuda = device.type == "cuda"
        source = self.pin_memory() if is_cuda and self.input_ids.device.type == "cpu" else self
        return source._each(lambda tensor: tensor.to(device, non_blocking=is_cuda), but={"rows"})

    def pin_memory(self) -> "Batch":
        """The same in page-locked memory, for loaders that pin."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor], but: Collection[str] = ()) -> "Batch":
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in but}
        changed: dict[str, Any] = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **changed, scores={name: change(values) for name, values in self.scores.items()})


def score_bits(scores: Tensor) -> Tensor:
    """Float32 scores as :attr:`Batch.scores` keeps them: the same bits as int32."""
    return scores.view(torch.int32)


def ids_of(column: str) -> str:
    """The name in :attr:`Batch.scores` of the ids that a column of most likely tokens has."""
    return f"{column}.ids"
