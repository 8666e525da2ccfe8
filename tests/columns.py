"""Scores: as they are stored in a column, and computed the slow way."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from remit_lit.data.columns import ScoreColumn, column_directory


def slow_nll(model: PreTrainedModel, row: dict[str, Any], document_attention: bool) -> list[float | None]:
    """NLL of the token after each position from whole logits, a document at a time; None where nothing is predicted."""
    values: list[float | None] = []
    for piece, said in _pieces(model, row, document_attention):
        values += [-float(p[token]) for p, token in zip(said[:-1], piece[1:], strict=True)] + [None]
    return values


def slow_entropy(model: PreTrainedModel, row: dict[str, Any], document_attention: bool) -> list[float | None]:
    """Of the distribution over that token: the mean of ``-log p`` under ``p`` itself, summed token by token."""
    values: list[float | None] = []
    for _, said in _pieces(model, row, document_attention):
        values += [-math.fsum(math.exp(p) * p for p in each) for each in said[:-1].tolist()] + [None]
    return values


def _pieces(
    model: PreTrainedModel, row: dict[str, Any], document_attention: bool
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Tokens of each document, or of the row, and the model's log-probabilities after them, [tokens, vocab]."""
    tokens, start = list(row["input_ids"]), 0
    for length in row["document_lengths"] if document_attention else [len(tokens)]:
        piece = tokens[start : start + length]
        start += length
        with torch.no_grad():
            yield piece, model(input_ids=torch.tensor([piece])).logits[0].float().log_softmax(-1)


def stored(rows: Path, name: str, split: str = "train") -> np.ndarray:
    column = ScoreColumn(column_directory(rows, split, name))
    return np.stack([column[row] for row in range(column.facts.num_rows)])


def shards_of(rows: Path, name: str) -> dict[str, bytes]:
    directory = column_directory(rows, "train", name)
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
