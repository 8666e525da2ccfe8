"""NLLs: as they are stored in a column, and computed the slow way."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from remit_lit.data.columns import ScoreColumn, column_directory


def slow_nll(model: PreTrainedModel, row: dict[str, Any], document_attention: bool) -> list[float | None]:
    """NLL of the token after each position from whole logits, a document at a time; None where nothing is predicted."""
    tokens, values = list(row["input_ids"]), []
    pieces = list(row["document_lengths"]) if document_attention else [len(tokens)]
    start = 0
    for length in pieces:
        piece = torch.tensor([tokens[start : start + length]])
        start += length
        with torch.no_grad():
            log_probabilities = model(input_ids=piece).logits[0].float().log_softmax(-1)
        predicted = zip(log_probabilities[:-1], piece[0, 1:], strict=True)
        values += [-float(p[token]) for p, token in predicted] + [None]
    return values


def stored(rows: Path, name: str, split: str = "train") -> np.ndarray:
    column = ScoreColumn(column_directory(rows, split, name))
    return np.stack([column[row] for row in range(column.facts.num_rows)])


def shards_of(rows: Path, name: str) -> dict[str, bytes]:
    directory = column_directory(rows, "train", name)
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
