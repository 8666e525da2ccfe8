"""Bits per byte of gold continuations: what a model pays, in bits, for each byte of a benchmark's own answer."""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from remit_lit.errors import DataError
from remit_lit.evaluation.records import Item
from remit_lit.evaluation.results import Floats
from remit_lit.models import ModelSpec, hidden_states, loss_head


@dataclass(frozen=True)
class ItemScores:
    """Per-item results of one model on one benchmark."""

    bits: Floats
    """[items] bits for the gold continuation."""
    n_bytes: Floats
    """[items] UTF-8 bytes of the gold continuation."""

    @property
    def bits_per_byte(self) -> float:
        """Pooled: all bits over all bytes, so a long item counts for more than a short one."""
        return float(self.bits.sum() / self.n_bytes.sum())


@dataclass(frozen=True)
class _Encoded:
    ids: list[int]
    context_length: int


def load_for_scoring(directory: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model of a local Hugging Face directory, in float32 and evaluation mode, and its tokenizer."""
    spec = ModelSpec(path=str(directory))
    return spec.load(), spec.load_tokenizer()


@torch.inference_mode()
def score_items(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    *,
    max_batch_tokens: int = 2048,
    bfloat16: bool = False,
) -> ItemScores:
    """Score every item's gold continuation given its context, zero-shot.

    Context and continuation are tokenised apart, without special tokens, so the scored tokens spell exactly the
    continuation's bytes. Items are sorted by length and padded on the right; causal attention never looks right,
    so padding changes nothing and no attention mask is needed. The head is applied at continuation positions alone.

    Args:
        model: from `load_for_scoring`.
        tokenizer: the model's own.
        items: contexts and continuations, none empty.
        max_batch_tokens: padded tokens in one forward pass; one longer item still makes a batch of its own.
        bfloat16: run the forward pass under bfloat16 autocast; the NLL is float32 either way.

    Raises:
        DataError: an item has an empty context or continuation.
    """
    encoded = [_encode(tokenizer, item, index) for index, item in enumerate(items)]
    precision: AbstractContextManager[object] = (
        torch.autocast("cpu", dtype=torch.bfloat16) if bfloat16 else nullcontext()
    )
    bits = np.zeros(len(items))
    for batch in _batches(encoded, max_batch_tokens):
        with precision:
            nll = _continuation_nll(model, [encoded[index] for index in batch])  # [rows] nats
        bits[batch] = nll.double().numpy() / math.log(2)
    n_bytes = np.array([len(item.continuation.encode("utf-8")) for item in items], dtype=np.float64)
    return ItemScores(bits=bits, n_bytes=n_bytes)


def _encode(tokenizer: PreTrainedTokenizerBase, item: Item, index: int) -> _Encoded:
    context = tokenizer(item.context, add_special_tokens=False)["input_ids"]
    continuation = tokenizer(item.continuation, add_special_tokens=False)["input_ids"]
    if not context or not continuation:
        raise DataError(f"items[{index}]: context and continuation must each hold at least one token, got {item}")
    return _Encoded(context + continuation, len(context))


def _batches(encoded: Sequence[_Encoded], max_batch_tokens: int) -> Iterator[list[int]]:
    """Item indices in batches of similar length whose padded size stays within the budget."""
    batch: list[int] = []
    for index in sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids)):
        longest = len(encoded[index].ids)
        if batch and (len(batch) + 1) * longest > max_batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _continuation_nll(model: nn.Module, rows: Sequence[_Encoded]) -> Tensor:
    """Summed NLL in nats of each row's continuation, [rows]."""
    length = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)  # [rows, time]
    scored = torch.zeros(len(rows), length, dtype=torch.bool)  # [rows, time] True where ids is a continuation token
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        scored[i, row.context_length : len(row.ids)] = True
    hidden = hidden_states(model, {"input_ids": ids[:, :-1]})  # [rows, time - 1, dim]
    predicts = scored[:, 1:]  # [rows, time - 1] True where the next token is scored
    logits = loss_head(model)(hidden[predicts])  # [tokens, vocab]
    nll = nn.functional.cross_entropy(logits.float(), ids[:, 1:][predicts], reduction="none")  # [tokens]
    of_row = predicts.nonzero()[:, 0]  # [tokens]
    return torch.zeros(len(rows)).index_add_(0, of_row, nll)
