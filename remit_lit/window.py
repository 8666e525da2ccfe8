"""The micro-batches of one optimizer step on one rank: their losses, and their rows for messages."""

from typing import NoReturn

import torch
from torch import Tensor

from remit_lit.errors import NonFiniteError
from remit_lit.objective import WeightedLoss


class Window:
    """Sums over the accumulated micro-batches.

    Args:
        num_rows: rows of all micro-batches of a step on this rank.
        device: where losses are.

    Attributes:
        sums: of weighted losses in nats, and of what they are divided by in tokens, float64 [2]. No buffer of a module:
            half-precision plugins would round it.
        rows: numbers of the rows so far.
        broken: those of micro-batches whose loss is not finite.
    """

    def __init__(self, num_rows: int, device: torch.device) -> None:
        self.num_rows, self.device = num_rows, device
        self.clear()

    def clear(self) -> None:
        """Begin the next step."""
        self.sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        self.rows: list[int] = []
        self.broken: list[int] = []

    def add(self, loss: WeightedLoss, rows: list[int]) -> None:
        """Take in a micro-batch."""
        self.rows += rows
        self.broken += [] if torch.isfinite(loss.total) else rows
        self.sums += torch.stack([loss.total.detach(), loss.normalizer]).double()

    @property
    def is_full(self) -> bool:
        """Whether all micro-batches are there; ZeRO is asked for a step after each of them."""
        return len(self.rows) == self.num_rows


def stop(step: int, what: str, rows: list[int], value: Tensor) -> NoReturn:
    """Raise NonFiniteError for a loss or a gradient norm; ``rows`` are this rank's, none if another rank's broke."""
    whose = f"of rows {rows}" if rows else "of another rank"
    raise NonFiniteError(
        f"step {step}: the {what} {whose} is {value.item()}; training stops before the weights change, and the last "
        "checkpoint is kept"
    )
