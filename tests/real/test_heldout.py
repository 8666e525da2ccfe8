import math

import numpy as np
import pytest
import torch

from remit_lit.errors import DataError
from remit_lit.evaluation.records import Item
from remit_lit.real.heldout import load_for_scoring, score_items

ITEMS = [
    Item("Question: 2 + 2?\nAnswer:", " 4"),
    Item("a", "b"),
    Item("Who wrote this?", " Zoë, naïvely — in 日本語."),
    Item("def f(x):\n", "    return x + 1\n" * 5),
    Item("long context " * 20, "short"),
]


def slow_bits(model, tokenizer, item: Item) -> float:
    """One item, one token at a time, by the model's own logits."""
    context, continuation = tokenizer(item.context)["input_ids"], tokenizer(item.continuation)["input_ids"]
    bits = 0.0
    for position, token in enumerate(continuation):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([context + continuation[:position]])).logits[0, -1]
        bits -= logits.double().log_softmax(-1)[token].item() / math.log(2)
    return bits


@pytest.mark.parametrize("max_batch_tokens", [1, 150, 100_000])
def test_batches_give_what_each_item_gives_alone(byte_model_dir, max_batch_tokens):
    model, tokenizer = load_for_scoring(byte_model_dir)
    scores = score_items(model, tokenizer, ITEMS, max_batch_tokens=max_batch_tokens)
    np.testing.assert_allclose(scores.bits, [slow_bits(model, tokenizer, item) for item in ITEMS], rtol=1e-4)


def test_bytes_are_of_utf8(byte_model_dir):
    scores = score_items(*load_for_scoring(byte_model_dir), ITEMS)
    assert scores.n_bytes.tolist() == [len(item.continuation.encode()) for item in ITEMS]
    assert scores.n_bytes[2] > len(ITEMS[2].continuation)
    assert scores.bits_per_byte == pytest.approx(scores.bits.sum() / scores.n_bytes.sum())


def test_a_model_that_knows_nothing_pays_for_every_token_alike(byte_model_dir):
    model, tokenizer = load_for_scoring(byte_model_dir)
    torch.nn.init.zeros_(model.get_output_embeddings().weight)
    scores = score_items(model, tokenizer, ITEMS)
    np.testing.assert_allclose(scores.bits, scores.n_bytes * math.log2(257), rtol=1e-5)


def test_bfloat16_is_close(byte_model_dir):
    model, tokenizer = load_for_scoring(byte_model_dir)
    exact, rounded = (score_items(model, tokenizer, ITEMS, bfloat16=flag) for flag in (False, True))
    assert not np.array_equal(rounded.bits, exact.bits)
    assert rounded.bits_per_byte == pytest.approx(exact.bits_per_byte, rel=0.02)


def test_an_empty_continuation_is_refused_by_its_index(byte_model_dir):
    with pytest.raises(DataError, match=r"items\[1\]"):
        score_items(*load_for_scoring(byte_model_dir), [ITEMS[0], Item("context", "")])
