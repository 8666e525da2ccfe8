"""What an optimizer step adds up to, and whether it may change the weights: found on the device, read now and then."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NoReturn

import lightning.pytorch as pl
import torch
from torch import Tensor

from remit_lit.errors import ConfigError, NonFiniteError
from remit_lit.reference.reference import Reference
from remit_lit.training.objective import WeightedLoss
from remit_lit.weighting import TokenWeighting
from remit_lit.weighting.checks import KINDS, fault, faults


@dataclass
class Window:
    """Sums over the accumulated micro-batches of an optimizer step.

    Attributes:
        num_rows: rows of all micro-batches of a step on this rank.
        device: where losses are.
        sums: of weighted losses in nats, of what they are divided by in tokens, and of micro-batches with faulty
            weights or references, float64 [3]. No buffer of a module: half-precision plugins would round it.
        rows: numbers of the rows so far, by micro-batch.
        findings: of each micro-batch, float64 [1 + kinds * (batch + 1)]: its loss, and what is wrong with its weights
            and with the references.
    """

    num_rows: int
    device: torch.device
    sums: Tensor = field(init=False)
    rows: list[list[int]] = field(init=False)
    findings: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin the next step."""
        self.sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        self.rows, self.findings = [], []

    def add(self, loss: WeightedLoss, rows: list[int], num_frozen: int) -> None:
        """Take in a micro-batch.

        Args:
            loss: of it.
            rows: their numbers.
            num_frozen: how many frozen models the strategy compared: none, the reference, or that and the base.
        """
        mask = loss.signals.mask
        wrong = [faults(loss.weights, loss.signals)]
        for nll in (loss.signals.reference_nll, loss.signals.policy_nll)[:num_frozen]:
            assert nll is not None
            broken = (~torch.isfinite(nll) & mask).any(1).double()
            wrong.append(torch.cat([broken, broken.new_zeros(1)])[None])
        found, total = torch.cat(wrong), loss.total.detach().double()
        is_faulty = found[:, :-1].any().double()
        self.sums += torch.stack([total, loss.normalizer.double(), is_faulty])
        self.rows.append(rows)
        self.findings.append(torch.cat([total[None], found.flatten()]))

    @property
    def is_full(self) -> bool:
        """Whether all micro-batches are there; under ZeRO the optimizer is called after each of them."""
        return sum(map(len, self.rows)) == self.num_rows


@dataclass(frozen=True)
class _Step:
    """What is known of one step on the device: the sums of all ranks, and the norm of its gradients."""

    number: int
    rows: list[list[int]]
    findings: list[Tensor]
    sums: Tensor
    grad_norm: Tensor | None


class Verdict:
    """Whether a step broke: its loss or gradients are not finite, or its weights or references are faulty.

    A broken step must change no weights, and stops the run. Where the optimizer can leave a step out on the device,
    ``broken`` tells it to, in that step and all later ones, so that the host may ask later; elsewhere it asks before
    each step of the optimizer.

    Args:
        weighting: the strategy.
        references: the frozen models that it compares, in the order of the window's findings.
        device: where losses are.

    Attributes:
        broken: 1 from the first broken step on, else 0, float32 scalar on the device, the same on all ranks.
    """

    def __init__(self, weighting: TokenWeighting, references: Sequence[Reference], device: torch.device) -> None:
        self.weighting, self.references = weighting, references
        self.broken = torch.zeros((), device=device)
        self._steps: list[_Step] = []

    def add(self, number: int, window: Window, sums: Tensor, grad_norm: Tensor | None) -> None:
        """Take in a step.

        Args:
            number: of the optimizer step.
            window: of this rank.
            sums: the window's, of all ranks, [3].
            grad_norm: 2-norm of the gradients, scalar; None where it is not known yet.
        """
        wrong = ~torch.isfinite(sums[0]) | (sums[2] > 0)
        if grad_norm is not None:
            wrong = wrong | ~torch.isfinite(grad_norm)
        self.broken = torch.maximum(self.broken, wrong.float())
        self._steps.append(_Step(number, window.rows, window.findings, sums, grad_norm))

    def read(self) -> None:
        """Wait for the device, and stop the run if a step broke since the last time.

        Raises:
            ConfigError: the strategy's weights are faulty.
            NonFiniteError: a loss, a gradient or a reference is NaN or infinite; names the step and the rows.
        """
        steps, self._steps = self._steps, []
        if steps and self.broken.item():
            for step in steps:
                self._judge(step)

    def _judge(self, step: _Step) -> None:
        total, _, faulty = step.sums.tolist()
        batches = [(rows, *found.tolist()) for rows, found in zip(step.rows, step.findings, strict=True)]
        if faulty:
            for rows, _, *table in batches:
                self._judge_tokens(list(_batched(table, len(rows) + 1)), rows)
            raise ConfigError("model.weighting: another rank's weights or reference are faulty; its message says how")
        broken = [(rows, loss) for rows, loss, *_ in batches if not math.isfinite(loss)]
        if broken or not math.isfinite(total):
            stop(step.number, "loss", *(broken or [([], total)])[0])
        if step.grad_norm is not None and not math.isfinite(norm := step.grad_norm.item()):
            stop(step.number, "gradient norm", list(chain(*step.rows)), norm)

    def _judge_tokens(self, table: Sequence[Sequence[float]], rows: list[int]) -> None:
        for reference, (*flags, _) in zip(self.references, table[len(KINDS) :], strict=True):
            broken = [row for row, flag in zip(rows, flags, strict=True) if flag]
            if broken:
                raise NonFiniteError(reference.complaint(broken))
        found = fault(self.weighting, table[: len(KINDS)], rows)
        if found is not None:
            raise ConfigError(found)


def stop(step: int, what: str, rows: list[int], value: float) -> NoReturn:
    """Raise NonFiniteError for a loss or a gradient norm; ``rows`` are this rank's, none if another rank's broke."""
    whose = f"of rows {rows}" if rows else "of another rank"
    raise NonFiniteError(
        f"step {step}: the {what} {whose} is {value}; training stops before the weights change, and the last "
        "checkpoint is kept"
    )


def _batched(values: Sequence[float], size: int) -> Iterator[Sequence[float]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def is_logging_step(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether this micro-batch is the last of a step that is logged."""
    every = max(1, getattr(trainer, "log_every_n_steps", 1)) * trainer.accumulate_grad_batches
    return (batch_idx + 1) % every == 0
