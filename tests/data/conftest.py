"""A tokenizer whose ids are the bytes of the text, and NLLs: as they are stored, and computed the slow way."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from remit_lit.data.columns import ScoreColumn, column_directory

BYTE_EOS = 256


def byte_vocabulary() -> dict[str, int]:
    """The character that byte-level tokenizers write for each byte, and that byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + index): b for index, b in enumerate(others)}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Token ids are UTF-8 bytes; 256 ends a document."""
    tokenizer = Tokenizer(models.BPE(byte_vocabulary(), []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


@pytest.fixture(scope="session")
def byte_tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("byte-tokenizer")
    byte_tokenizer().save_pretrained(directory)
    return directory


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
