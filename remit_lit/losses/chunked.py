"""Cross-entropy from hidden states without the ``[tokens, vocab]`` logits of a whole batch.

``weighted_nll`` makes gradients while the logits of a few rows are at hand, so it needs the weights at that moment.
``token_nll`` leaves the weighting to the caller and recomputes the logits in backward. Both do their arithmetic
outside autocast with explicit types: matrix products of operands in the type of autocast (or of ``hidden``), whose
results and the softmax are at least float32. Logits rounded to bfloat16 would be off by up to 2^-8 of their size.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from remit_lit.losses.head import Head

IGNORE_INDEX = -100
# Logits of 128 MiB in float32 at a time: large enough for efficient matrix products.
_CHUNK_LOGITS = 2**25
# A row of up to 2 GiB of float32 logits is kept whole; a longer one is computed twice, in chunks.
_ROW_LOGITS = 2**29

Weigh = Callable[..., Tensor]


def token_nll(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    chunk_tokens: int | None = None,
    ignore_index: int = IGNORE_INDEX,
    return_log_normalizer: bool = False,
    return_entropy: bool = False,
    compiled: bool = False,
) -> Any:
    """Negative log-likelihood of each target, differentiable; logits are recomputed in backward.

    Args:
        hidden: last hidden states, [batch, time, dim].
        weight: output embedding, [vocab, dim].
        targets: token predicted at each position, [batch, time]; ``ignore_index`` where there is none.
        bias: of the output embedding, [vocab].
        chunk_tokens: tokens whose logits exist at the same time; peak extra memory is ``chunk_tokens * vocab``.
            None: as many as give 128 MiB of logits.
        ignore_index: target of positions that get NLL 0 and no gradient.
        return_log_normalizer: also return ``logsumexp(logits)``, [batch, time], 0 where ignored (for z-loss).
        return_entropy: also return the entropy of the distribution that each target is drawn from, without gradient,
            in nats, [batch, time], 0 where ignored.
        compiled: the softmax and its gradient by torch.compile, each in one pass over the logits.

    Returns:
        NLL in nats, float32 (float64 for float64 input), [batch, time]; or a tuple of that and, in this order, the
        log-normaliser and the entropy where they are asked for.
    """
    chunk_tokens = chunk_tokens or max(1, _CHUNK_LOGITS // len(weight))
    options = chunk_tokens, ignore_index, return_entropy, compiled
    nll, log_normalizer, *entropy = _TokenNLL.apply(compute_type(hidden), weight, bias, targets, *options)
    found = (nll, *([log_normalizer] if return_log_normalizer else []), *entropy)
    return found if len(found) > 1 else nll


def weighted_nll(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    weigh: Weigh,
    *,
    bias: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
    z_loss: float | Tensor = 0.0,
    chunk_tokens: int | None = None,
    with_entropy: bool = False,
    compiled: bool = False,
) -> tuple[Tensor, Tensor]:
    """Weighted sum of NLLs in one pass: logits, NLLs, weights and gradients of some rows, then the logits are gone.

    Args:
        hidden: last hidden states, [batch, time, dim].
        weight: output embedding, [vocab, dim].
        targets: token predicted at each position, [batch, time]; ``ignore_index`` where there is none.
        weigh: ``weigh(rows, nll [rows, time]) -> weights [rows, time]``; called once for each group of whole rows.
            The weights are constants of the loss.
        bias: of the output embedding, [vocab].
        ignore_index: target of positions that get NLL 0 and no gradient.
        z_loss: coefficient of ``logsumexp(logits)^2``, which every target counts in once, whatever its weight: it
            regularises logits (OLMo 2: 1e-5).
        chunk_tokens: tokens whose logits exist at the same time. A row longer than that is computed in chunks, and
            its logits a second time once its weights are known. None: at least a row, while that is under 2 GiB.
        with_entropy: call ``weigh(rows, nll, entropy)``, with the entropy of the distribution that each target is drawn
            from, in nats, [rows, time], 0 where ignored: one more reduction of the logits, and no more memory.
        compiled: the softmax and its gradient by torch.compile, each in one pass over the logits.

    Returns:
        ``sum of weights * nll + z_loss * sum of log_normalizer^2``, a scalar with gradient, and the NLL in nats,
        detached, [batch, time].
    """
    if chunk_tokens is None:
        time, small = targets.shape[1], max(1, _CHUNK_LOGITS // len(weight))
        chunk_tokens = max(time, small) if time * len(weight) <= _ROW_LOGITS else small
    # Under no_grad `ctx.needs_input_grad` stays True, so whether gradients are wanted is asked here.
    options = weigh, ignore_index, z_loss, chunk_tokens, with_entropy, compiled, torch.is_grad_enabled()
    return _WeightedNLL.apply(compute_type(hidden), weight, bias, targets, *options)


def compute_type(hidden: Tensor) -> Tensor:
    """Hidden states in the type of matrix products: autocast's where it is on, else their own."""
    device = hidden.device.type
    return hidden.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else hidden


def _slices(start: int, stop: int, step: int) -> Iterator[slice]:
    return (slice(first, min(first + step, stop)) for first in range(start, stop, step))


class _TokenNLL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *options: int) -> Any:
        ctx.chunk_tokens, ctx.ignore_index, with_entropy, ctx.compiled = options
        with torch.autocast(hidden.device.type, enabled=False):
            head = Head(hidden, weight, bias, targets, ctx.ignore_index, compiled=bool(ctx.compiled))
            chunks = list(_slices(0, targets.numel(), ctx.chunk_tokens))
            scores = [head.score(c, head.logits(c), with_entropy=bool(with_entropy)) for c in chunks]
        parts = [torch.cat(part) for part in zip(*scores, strict=True)]  # [tokens] each
        ctx.save_for_backward(hidden, weight, bias, targets, parts[1])
        found = tuple(torch.where(head.counted, part, 0).view(targets.shape) for part in parts)
        ctx.mark_non_differentiable(*found[2:])
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_nll: Tensor, d_log_normalizer: Tensor, *_: Tensor) -> Any:
        hidden, weight, bias, targets, log_normalizer = ctx.saved_tensors
        d_nll, d_log_normalizer = d_nll.flatten(), d_log_normalizer.flatten()
        with torch.autocast(hidden.device.type, enabled=False):
            head = Head(hidden, weight, bias, targets, ctx.ignore_index, compiled=bool(ctx.compiled))
            head.start_gradients()
            for c in _slices(0, targets.numel(), ctx.chunk_tokens):
                head.add_gradients_(c, head.logits(c), log_normalizer[c], d_nll[c], d_log_normalizer[c])
        return (*head.gradients(), None, None, None, None, None)


class _WeightedNLL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *options: Any) -> Any:
        weigh, ignore_index, z_loss, chunk_tokens, with_entropy, compiled, needs_gradient = options
        batch, time = targets.shape
        with torch.autocast(hidden.device.type, enabled=False):
            head = Head(hidden, weight, bias, targets, ignore_index, compiled=compiled)
            if needs_gradient:
                head.start_gradients()
            groups = _slices(0, batch, max(1, chunk_tokens // time))
            passed = weigh, z_loss, chunk_tokens, with_entropy, needs_gradient
            results = [_weigh_rows(head, rows, time, *passed) for rows in groups]
        if needs_gradient:
            ctx.gradients = head.gradients()
        sums, nlls = zip(*results, strict=True)
        nll = torch.cat(nlls)
        ctx.mark_non_differentiable(nll)
        return torch.stack(sums).sum(), nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_sum: Tensor, _: Tensor) -> Any:
        # Not in place: a second backward over the same graph must find the gradients as they were.
        scaled = (None if g is None else d_sum.to(g.dtype) * g for g in ctx.gradients)
        return (*scaled, *([None] * 8))


def _weigh_rows(
    head: Head,
    rows: slice,
    time: int,
    weigh: Weigh,
    z_loss: float | Tensor,
    chunk_tokens: int,
    with_entropy: bool,
    needs_gradient: bool,
) -> tuple[Tensor, Tensor]:
    """Weighted sum and NLL [rows, time] of some whole rows, whose gradients are added to those of the head."""
    start, stop = rows.start * time, rows.stop * time
    chunks = list(_slices(start, stop, chunk_tokens))
    scores = []
    for c in chunks:
        logits = head.logits(c)
        scores.append(head.score(c, logits, with_entropy=with_entropy))
    parts = [torch.cat(part) for part in zip(*scores, strict=True)]  # [tokens] each
    log_normalizer, counted = parts[1], head.counted[start:stop]
    nll, kept_normalizer, *entropy = (torch.where(counted, part, 0).view(-1, time) for part in parts)
    weights = weigh(rows, nll, *entropy).to(nll.dtype)  # [rows, time]
    squared = kept_normalizer**2
    if needs_gradient:
        d_nll = weights.flatten()
        d_log_normalizer = 2 * z_loss * log_normalizer
        for c in chunks:
            local = slice(c.start - start, c.stop - start)
            logits = logits if len(chunks) == 1 else head.logits(c)
            head.add_gradients_(c, logits, log_normalizer[local], d_nll[local], d_log_normalizer[local])
    return (weights * nll).sum() + z_loss * squared.sum(), nll
