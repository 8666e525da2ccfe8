"""The losses from hidden states against whole logits and ``cross_entropy``: time and extra memory."""

import statistics
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from remit_lit.losses import token_nll, weighted_nll
from remit_lit.losses.head import Head
from tests.benchmarks.measure import Figure, interleave, peak_extra_bytes, ratio, seconds

_BATCH, _TIME, _DIM = 8, 512, 576


def figures(repeats: int) -> list[Figure]:
    """Forward and backward of 4,096 tokens at two sizes of vocabulary."""
    return [figure for vocab in (49_152, 100_000) for figure in _at(vocab, repeats)]


def _at(vocab: int, repeats: int) -> list[Figure]:
    torch.manual_seed(0)
    hidden = torch.randn(_BATCH, _TIME, _DIM, requires_grad=True)
    weight = (torch.randn(vocab, _DIM) * 0.05).requires_grad_()
    targets = torch.randint(0, vocab, (_BATCH, _TIME))
    # Gradients are there from the start, as from the second accumulated micro-batch on.
    hidden.grad, weight.grad = torch.zeros_like(hidden), torch.zeros_like(weight)

    def one_pass() -> None:
        weighted_nll(hidden, weight, targets, lambda rows, nll: torch.ones_like(nll))[0].backward()

    def recomputing() -> None:
        token_nll(hidden, weight, targets).sum().backward()

    def full() -> None:
        logits: Tensor = linear(hidden, weight)
        cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").backward()

    variants: dict[str, Callable[[], None]] = {"one": one_pass, "two": recomputing, "full": full}
    times = interleave({name: lambda work=work: seconds(work) for name, work in variants.items()}, repeats)  # type: ignore[misc]
    peaks = interleave({name: lambda work=work: peak_extra_bytes(work) for name, work in variants.items()}, repeats)  # type: ignore[misc]

    def note(found: dict[str, list[float]], name: str, unit: float, label: str) -> str:
        return (
            f"{statistics.median(found[name]) / unit:.2f} against {statistics.median(found['full']) / unit:.2f} {label}"
        )

    at = f"full logits, {vocab:,} tokens of vocabulary"
    lines = []
    for name, title, time_bar, memory_bar in (
        ("one", "one-pass loss", "<= 1.02", "<= 0.12"),
        ("two", "recomputing loss", "<= 1.40", None),
    ):
        lines += [
            ratio(
                f"{title} / {at}, extra memory", peaks[name], peaks["full"], memory_bar, note(peaks, name, 1e9, "GB")
            ),
            ratio(f"{title} / {at}, time", times[name], times["full"], time_bar, note(times, name, 1, "s")),
        ]
    return [*lines, _half(vocab, repeats)]


def _half(vocab: int, repeats: int) -> Figure:
    """What it costs that logits of bfloat16 operands are float32, and not rounded to bfloat16."""
    torch.manual_seed(0)
    hidden = torch.randn(_BATCH, _TIME, _DIM, dtype=torch.bfloat16, requires_grad=True)
    weight = (torch.randn(vocab, _DIM) * 0.05).bfloat16().requires_grad_()
    targets = torch.randint(0, vocab, (_BATCH, _TIME))

    def one_pass() -> None:
        weighted_nll(hidden, weight, targets, lambda rows, nll: torch.ones_like(nll))[0].backward()

    def rounded() -> None:
        with mock.patch.object(Head, "logits", _rounded_logits):
            one_pass()

    found = interleave({"wide": lambda: seconds(one_pass), "rounded": lambda: seconds(rounded)}, repeats)
    note = f"{statistics.median(found['wide']):.2f} against {statistics.median(found['rounded']):.2f} s"
    name = f"one-pass loss of bfloat16 with float32 logits / with logits rounded to bfloat16, {vocab:,} tokens, time"
    return ratio(name, found["wide"], found["rounded"], None, note)


def _rounded_logits(head: Any, tokens: slice) -> Tensor:
    logits: Tensor = linear(head.hidden[tokens], head.weight)
    return logits.float()
