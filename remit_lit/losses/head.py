"""An output embedding as the loss uses it: logits of some tokens at a time, and the gradients that they leave."""

import torch
from torch import Tensor

from remit_lit.losses.arithmetic import compiled_gradient, compiled_scores, gradient_, scores


def keeps_sums(hidden: Tensor) -> bool:
    """Whether the device gives the float32 sums of a product of half-precision matrices; only CUDA does."""
    return hidden.is_cuda


class Head:
    """Logits, scores and accumulated gradients of an output embedding, for chunks of flattened tokens."""

    def __init__(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        ignore_index: int,
        *,
        compiled: bool = False,
    ) -> None:
        self.hidden = hidden.flatten(0, -2)  # [tokens, dim]
        self.counted = targets.flatten() != ignore_index  # [tokens]
        self.targets = torch.where(self.counted, targets.flatten(), 0)
        self.shape, self.parameters = hidden.shape, (weight, bias)
        self.weight = weight.to(hidden.dtype)
        self.bias = None if bias is None else bias.to(hidden.dtype)
        self.logits_type = torch.promote_types(hidden.dtype, torch.float32)
        # Where the product of halves is rounded to halves, its operands are widened first.
        self._factor = self.weight if keeps_sums(hidden) else self.weight.to(self.logits_type)
        self._logits: Tensor | None = None
        self._scores = compiled_scores() if compiled else scores
        self._gradient_ = compiled_gradient() if compiled else gradient_

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
        return self._scores(logits, self.targets[tokens], with_entropy)

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
        targets, dtype = self.targets[tokens], self.hidden.dtype
        d_logits, summed = self._gradient_(
            logits, log_normalizer, targets, d_nll, d_log_normalizer, dtype, self.d_bias is not None
        )
        if self.d_bias is not None and summed is not None:
            self.d_bias += summed
        self.d_hidden[tokens] = d_logits @ self.weight
        if self.d_weight.dtype == d_logits.dtype:
            self.d_weight.addmm_(d_logits.T, self.hidden[tokens])
        else:
            self.d_weight += d_logits.T @ self.hidden[tokens]

    def gradients(self) -> tuple[Tensor, Tensor, Tensor | None]:
        weight, bias = self.parameters
        d_bias = None if bias is None or self.d_bias is None else self.d_bias.to(bias.dtype)
        return self.d_hidden.view(self.shape), self.d_weight.to(weight.dtype), d_bias
