"""Text of one's own as a task: bits per byte of each document of a ``.jsonl`` file."""

import hashlib
import math
from itertools import islice

import numpy as np
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from remit_lit.data.sources import JsonLines
from remit_lit.errors import DataError
from remit_lit.evaluation.results import Metric, TaskResult
from remit_lit.evaluation.windowed_model import Windowed


def measure_own_text(model: Windowed, path: str, limit: int | None = None) -> TaskResult:
    """Bits per byte of UTF-8, which models of different tokenizers can be compared by.

    Each document follows BOS, or EOS where the tokenizer has no BOS. One longer than the context window is split into
    windows, each scored given the last token of the one before; the last window is moved back so that it is full.

    Args:
        model: the model.
        path: JSON lines, each with a document in its field ``text``.
        limit: the first so many documents; None is all.

    Raises:
        DataError: a line is malformed, or there is no text.
    """
    texts = read_own_text(path, limit)
    windows = [_windows(model, text) for text in texts]
    found = iter(model.window_loglikelihoods([window for of_text in windows for window in of_text]))
    nats = np.array([sum(islice(found, len(of_text))) for of_text in windows])
    sizes = np.array([len(text.encode()) for text in texts], dtype=np.float64)
    items = tuple(hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for text in texts)
    return TaskResult({"bits_per_byte": Metric(-nats / math.log(2) / sizes, False, sizes)}, items)


def read_own_text(path: str, limit: int | None = None) -> list[str]:
    """The documents of the file that are not empty, in order.

    Raises:
        DataError: a line is malformed, or there is no text.
    """
    source = JsonLines(path)
    documents = (text for shard in source.shards() for text in source.read(shard) if text)
    texts = list(islice(documents, limit))
    if not texts:
        raise DataError(f"{path}: no document with text in it")
    return texts


def _windows(model: Windowed, text: str) -> list[tuple[list[int], list[int]]]:
    """Context and continuation of each window."""
    tokens = model.tok_encode(text, add_special_tokens=False)
    windows = get_rolling_token_windows(tokens, model.prefix_token_id, model.window, context_len=1)
    return [make_disjoint_window(window) for window in windows]
