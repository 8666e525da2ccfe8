"""The most likely tokens of a model at each position: what is kept of a distribution over the vocabulary."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from remit_lit.models.loss_head import loss_head

# Logits of 128 MiB in float32 at a time.
_CHUNK_LOGITS = 2**25


class TopTokens(NamedTuple):
    """Of a distribution at each position, the most likely first.

    Attributes:
        ids: of the tokens, int64 [batch, time, k].
        log_probabilities: of them in nats, float32 [batch, time, k]. They add up to less than 1; the rest is the tail.
    """

    ids: Tensor
    log_probabilities: Tensor


def top_tokens(model: nn.Module, hidden: Tensor, k: int, vocabulary: int) -> TopTokens:
    """The ``k`` most likely tokens at each position; no logits of the batch are held.

    Args:
        model: that :meth:`ModelSpec.load` built.
        hidden: its last hidden states, [batch, time, dim].
        k: tokens of each position, less than ``vocabulary``.
        vocabulary: only ids below it are taken; what the model says of ids that pad its vocabulary is tail.
    """

    def find(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Any:
        found = []
        for states in hidden.flatten(0, -2).split(max(1, _CHUNK_LOGITS // len(weight))):
            logits = torch.nn.functional.linear(states, weight, bias).float()  # [tokens, vocab]
            normalizer = logits.logsumexp(-1, keepdim=True)
            values, ids = logits[:, :vocabulary].topk(k)
            found.append((ids, values - normalizer))
        return [torch.cat(part).view(*hidden.shape[:-1], k) for part in zip(*found, strict=True)]

    return TopTokens(*loss_head(model)(hidden, find))
