"""What a strategy pays for the signals that it declares: the policy's entropy, of logits that are there anyway."""

import statistics
from functools import partial

import torch
from torch import Tensor

from remit_lit.losses import token_nll, weighted_nll
from tests.benchmarks.measure import Figure, interleave, peak_extra_bytes, ratio, seconds

_BATCH, _TIME, _DIM, _VOCAB = 8, 512, 576, 49_152


def figures(repeats: int) -> list[Figure]:
    """Forward and backward of 4,096 tokens with the entropy and without."""
    torch.manual_seed(0)
    hidden = torch.randn(_BATCH, _TIME, _DIM, requires_grad=True)
    weight = (torch.randn(_VOCAB, _DIM) * 0.05).requires_grad_()
    targets = torch.randint(0, _VOCAB, (_BATCH, _TIME))

    def weigh(rows: slice, nll: Tensor, *entropy: Tensor) -> Tensor:
        return torch.ones_like(nll)

    def one_pass(*, with_entropy: bool) -> None:
        weighted_nll(hidden, weight, targets, weigh, with_entropy=with_entropy)[0].backward()

    def recomputing(*, with_entropy: bool) -> None:
        found = token_nll(hidden, weight, targets, return_entropy=with_entropy)
        (found[0] if with_entropy else found).sum().backward()

    lines = []
    for title, loss in (("one-pass loss", one_pass), ("recomputing loss", recomputing)):
        works = {"with": partial(loss, with_entropy=True), "without": partial(loss, with_entropy=False)}
        for what, measure, unit, label in (("time", seconds, 1.0, "s"), ("extra memory", peak_extra_bytes, 1e9, "GB")):
            found = interleave({name: partial(measure, work) for name, work in works.items()}, repeats)
            note = " against ".join(f"{statistics.median(found[name]) / unit:.2f}" for name in works)
            name = f"{title} with the policy's entropy / without, {what}"
            lines.append(ratio(name, found["with"], found["without"], None, f"{note} {label}"))
    return lines
