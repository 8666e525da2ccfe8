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

IGNORE_INDEX = -100
# Logits of 128 MiB in float32 at a time: large enough for efficient matrix products.
_CHUNK_LOGITS = 2**25
# Copied at a time within a chunk: 1 MiB, which fits a cache.
_COPIED_LOGITS = 2**18
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

    Returns:
        NLL in nats, float32 (float64 for float64 input), [batch, time]; or a tuple of that and, in this order, the
        log-normaliser and the entropy where they are asked for.
    """
    chunk_tokens = chunk_tokens or max(1, _CHUNK_LOGITS // len(weight))
    options = chunk_tokens, ignore_index, return_entropy
    nll, log_normalizer, *entropy = _TokenNLL.apply(_compute_type(hidden), weight, bias, targets, *options)
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
    z_loss: float = 0.0,
    chunk_tokens: int | None = None,
    with_entropy: bool = False,
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

    Returns:
        ``sum of weights * nll + z_loss * sum of log_normalizer^2``, a scalar with gradient, and the NLL in nats,
        detached, [batch, time].
    """
    if chunk_tokens is None:
        time, small = targets.shape[1], max(1, _CHUNK_LOGITS // len(weight))
        chunk_tokens = max(time, small) if time * len(weight) <= _ROW_LOGITS else small
    # Under no_grad `ctx.needs_input_grad` stays True, so whether gradients are wanted is asked here.
    options = weigh, ignore_index, z_loss, chunk_tokens, with_entropy, torch.is_grad_enabled()
    return _WeightedNLL.apply(_compute_type(hidden), weight, bias, targets, *options)


def _compute_type(hidden: Tensor) -> Tensor:
    device = hidden.device.type
    return hidden.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else hidden


def _slices(start: int, stop: int, step: int) -> Iterator[slice]:
    return (slice(first, min(first + step, stop)) for first in range(start, stop, step))


def _keeps_sums(hidden: Tensor) -> bool:
    """Whether the device gives the float32 sums of a product of half-precision matrices; only CUDA does."""
    return hidden.is_cuda


class _Head:
    """Logits, scores and accumulated gradients of an output embedding, for chunks of flattened tokens."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, ignore_index: int) -> None:
        self.hidden = hidden.flatten(0, -2)  # [tokens, dim]
        self.counted = targets.flatten() != ignore_index  # [tokens]
        self.targets = torch.where(self.counted, targets.flatten(), 0)
        self.shape, self.parameters = hidden.shape, (weight, bias)
        self.weight = weight.to(hidden.dtype)
        self.bias = None if bias is None else bias.to(hidden.dtype)
        self.logits_type = torch.promote_types(hidden.dtype, torch.float32)
        # Where the product of halves is rounded to halves, its operands are widened first.
        self._factor = self.weight if _keeps_sums(hidden) else self.weight.to(self.logits_type)
        self._logits: Tensor | None = None

    def logits(self, tokens: slice) -> Tensor:
        """At least float32, [tokens, vocab]; the same memory for every chunk, so the last chunk's are gone."""
        hidden = self.hidden[tokens]
        if self._logits is None or len(self._logits) < len(hidden):
            self._logits = hidden.new_empty(len(hidden), len(self.weight), dtype=self.logits_type)
        out, weight = self._logits[: len(hidden)], self._factor.T
        if weight.dtype != self.logits_type:
            torch.mm(hidden, weight, self.logits_type, out=out)
        elif self.bias is not None:
            return torch.addmm(self.bias.to(self.logits_type), hidden.to(self.logits_type), weight, out=out)
        else:
            torch.mm(hidden.to(self.logits_type), weight, out=out)
        return out if self.bias is None else out.add_(self.bias)

    def score(self, tokens: slice, logits: Tensor, *, with_entropy: bool = False) -> tuple[Tensor, ...]:
        """NLL, log-normaliser and, where it is asked for, entropy, [tokens] each, also where ignored."""
        # `logsumexp` copies its input, so it gets a little at a time.
        parts = logits.split(max(1, _COPIED_LOGITS // logits.shape[1]))
        log_normalizers = [part.logsumexp(-1) for part in parts]
        log_normalizer = torch.cat(log_normalizers)
        nll = log_normalizer - logits.gather(-1, self.targets[tokens, None])[:, 0]
        if not with_entropy:
            return nll, log_normalizer
        expected = [_expected_logit(*pair) for pair in zip(parts, log_normalizers, strict=True)]
        return nll, log_normalizer, log_normalizer - torch.cat(expected)

    def start_gradients(self) -> None:
        weight, bias = self.parameters
        self.d_hidden = torch.zeros_like(self.hidden)
        # Summing many bf16 chunks in bf16 would lose the small ones.
        accumulator = torch.promote_types(weight.dtype, torch.float32)
        self.d_weight = torch.zeros_like(weight, dtype=accumulator)
        self.d_bias = None if bias is None else torch.zeros_like(bias, dtype=accumulator)

    def add_gradients_(
        self, tokens: slice, logits: Tensor, log_normalizer: Tensor, d_nll: Tensor, d_log_normalizer: Tensor
    ) -> None:
        """Add those of one chunk: ``d_nll * (softmax - onehot) + d_log_normalizer * softmax``, over ``logits``."""
        d_nll, d_log_normalizer = d_nll * self.counted[tokens], d_log_normalizer * self.counted[tokens]
        softmax = logits.sub_(log_normalizer[:, None]).exp_()
        d_logits = softmax.mul_((d_nll + d_log_normalizer)[:, None])
        d_logits.scatter_add_(-1, self.targets[tokens, None], -d_nll[:, None])
        if self.d_bias is not None:
            self.d_bias += d_logits.sum(0)
        d_logits = d_logits.to(self.hidden.dtype)
        self.d_hidden[tokens] = d_logits @ self.weight
        if self.d_weight.dtype == d_logits.dtype:
            self.d_weight.addmm_(d_logits.T, self.hidden[tokens])
        else:
            self.d_weight += d_logits.T @ self.hidden[tokens]

    def gradients(self) -> tuple[Tensor, Tensor, Tensor | None]:
        weight, bias = self.parameters
        d_bias = None if bias is None or self.d_bias is None else self.d_bias.to(bias.dtype)
        return self.d_hidden.view(self.shape), self.d_weight.to(weight.dtype), d_bias


def _expected_logit(logits: Tensor, log_normalizer: Tensor) -> Tensor:
    """Mean of the logits under their own softmax, [tokens]; a token that cannot come (-inf) adds nothing."""
    probabilities = (logits - log_normalizer[:, None]).exp_()
    return probabilities.mul_(logits.clamp(min=torch.finfo(logits.dtype).min)).sum(-1)


class _TokenNLL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *options: int) -> Any:
        ctx.chunk_tokens, ctx.ignore_index, with_entropy = options
        with torch.autocast(hidden.device.type, enabled=False):
            head = _Head(hidden, weight, bias, targets, ctx.ignore_index)
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
            head = _Head(hidden, weight, bias, targets, ctx.ignore_index)
            head.start_gradients()
            for c in _slices(0, targets.numel(), ctx.chunk_tokens):
                head.add_gradients_(c, head.logits(c), log_normalizer[c], d_nll[c], d_log_normalizer[c])
        return (*head.gradients(), None, None, None, None)


class _WeightedNLL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *options: Any) -> Any:
        weigh, ignore_index, z_loss, chunk_tokens, with_entropy, needs_gradient = options
        batch, time = targets.shape
        with torch.autocast(hidden.device.type, enabled=False):
            head = _Head(hidden, weight, bias, targets, ignore_index)
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
        return (*scaled, None, None, None, None, None, None, None)


def _weigh_rows(
    head: _Head,
    rows: slice,
    time: int,
    weigh: Weigh,
    z_loss: float,
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
