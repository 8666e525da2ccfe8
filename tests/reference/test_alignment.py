"""NLLs of a model with another tokenizer, carried over to the tokens of rows."""

import json
import math
import re
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from remit_lit.data.sources import JsonLines
from remit_lit.errors import ConfigError
from remit_lit.lab.tokenizer import as_fast_tokenizer
from remit_lit.models.byte_tokenizer import build_byte_tokenizer
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.alignment import Aligner
from remit_lit.reference.score import score
from tests.columns import shards_of, slow_nll, stored
from tests.helpers import make_rows, save_model

TEXTS = [
    "The  quick brown fox, größer als Übermut, jumps over the lazy dog.",
    " leading spaces and\n\ttabs; 東京は日本の首都です。 naïve façade 🙂🙃",
    "a name of a special token, <|pad|>, within the text: <|eos|> of the quick brown fox",
]
MARKERS = ("<|bos|>", "<|eos|>")
SPECIAL = (*MARKERS, "<|pad|>")


def train(*, lowercase: bool = False) -> PreTrainedTokenizerBase:
    """A byte-level BPE with merges of several bytes and words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    return as_fast_tokenizer(tokenizer, *SPECIAL)


@pytest.fixture(scope="module")
def merged() -> PreTrainedTokenizerBase:
    return train()


@pytest.fixture(scope="module")
def single() -> PreTrainedTokenizerBase:
    return build_byte_tokenizer()


def document(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, split_special_tokens=True)["input_ids"]
    return [*ids, tokenizer.eos_token_id]


def pieces(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[bytes]:
    """What tokens stand for, by byte-level's own table; BOS and EOS count as one byte."""
    table = {symbol: byte for byte, symbol in bytes_to_symbols().items()}
    names = [str(tokenizer.convert_ids_to_tokens(index)) for index in ids]
    known = {**dict.fromkeys(MARKERS, b"\0"), "<|pad|>": b"<|pad|>"}
    return [known[name] if name in known else bytes(table[symbol] for symbol in name) for name in names]


def bytes_to_symbols() -> dict[int, str]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + place) for place, b in enumerate(others)}


def is_text(content: bytes) -> bool:
    """Whether no character of it is cut."""
    return content.decode(errors="ignore").encode() == content


def slow_carry(rows: list[bytes], model: list[bytes], nll: list[float]) -> tuple[list[float], list[bool]]:
    """NLL of each row token but the first by bytes, and whether its bounds lie within a token of the model."""
    by_byte = [0.0] * len(model[0])
    for content, value in zip(model[1:], nll, strict=True):
        by_byte += [value / len(content)] * len(content)
    ends = {sum(map(len, model[:count])) for count in range(len(model) + 1)}
    values, spread, place = [], [], len(rows[0])
    for content in rows[1:]:
        values.append(math.fsum(by_byte[place : place + len(content)]))
        spread.append(not {place, place + len(content)} <= ends)
        place += len(content)
    return values, spread


@pytest.mark.parametrize("text", TEXTS, ids=["words", "characters", "names"])
@pytest.mark.parametrize("is_finer", [True, False], ids=["bytes to words", "words to bytes"])
def test_a_token_gets_what_the_model_says_of_its_bytes(merged, single, text, is_finer):
    of_rows, of_model = (merged, single) if is_finer else (single, merged)
    ids = document(of_rows, text)
    alignment = Aligner(of_rows, of_model).align(ids, 0)
    assert alignment.ids.tolist() == document(of_model, text)
    nll = np.random.default_rng(0).random(len(alignment.ids) - 1) * 5
    expected, spread = slow_carry(pieces(of_rows, ids), pieces(of_model, alignment.ids.tolist()), nll.tolist())
    np.testing.assert_allclose(alignment.carry(nll)[1:], expected, rtol=0, atol=1e-10)
    assert alignment.is_spread[1:].tolist() == spread
    assert any(spread) != is_finer  # a byte lies within a word, a word is whole bytes
    assert alignment.carry(nll)[1:].sum() == pytest.approx(nll.sum())


@pytest.mark.parametrize("text", TEXTS)
def test_the_same_tokenizer_gives_the_same(merged, text):
    alignment = Aligner(merged, train()).align(ids := document(merged, text), 0)
    nll = np.arange(1.0, len(ids))
    assert alignment.ids.tolist() == ids and not alignment.is_spread[1:].any()
    np.testing.assert_allclose(alignment.carry(nll)[1:], nll, rtol=0, atol=1e-9)


def test_of_a_cut_character_the_mean_of_a_byte_is_said_and_marked(merged, single):
    """The piece begins with the last two bytes of a character of three, and ends with the first two of four."""
    content = [*"東".encode()[1:], *b" of the fox", *"🙂".encode()[:2]]
    alignment = Aligner(single, merged).align(content, 0)
    assert "".join(merged.convert_ids_to_tokens(alignment.ids.tolist())) == "ĠofĠtheĠfox"
    nll = np.full(len(alignment.ids) - 1, 3.0)
    scored = sum(map(len, pieces(merged, alignment.ids.tolist())[1:]))
    unscored = len(pieces(merged, alignment.ids.tolist())[0])
    carried, mean = alignment.carry(nll), nll.sum() / scored
    assert carried[[0, 1, -2, -1]] == pytest.approx(mean) and carried[2 : 2 + unscored] == pytest.approx(mean)
    assert alignment.is_spread[[0, 1, 2, -2, -1]].all()


def test_a_text_that_the_model_reads_as_another_is_refused(merged):
    lower = train(lowercase=True)
    with pytest.raises(ConfigError, match=re.escape("model.tokenizer: it reads the text of row 7")) as raised:
        Aligner(merged, lower).align(document(merged, TEXTS[0]), 7)
    assert "'the  quick" in str(raised.value) and "'The  quick" in str(raised.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, merged: Any, single: Any) -> Path:
    """Rows of the trained tokenizer that cut documents, and models of both tokenizers."""
    folder = tmp_path_factory.mktemp("aligned")
    lines = [json.dumps({"text": text[start:]}) for text in TEXTS for start in (0, 5, 9)]
    (folder / "text.jsonl").write_text("\n".join(lines) + "\n")
    merged.save_pretrained(folder / "merged")
    source = {"text": JsonLines(str(folder / "text.jsonl"))}
    make_rows(folder / "rows", folder / "merged", 40, sources=dict(source), validation_share=0.0)
    save_model(folder / "model", 3, single, vocab_size=259)
    save_model(folder / "same", 4, merged, vocab_size=len(merged))
    return folder


@pytest.mark.parametrize("document_attention", [True, False])
def test_a_column_is_what_whole_logits_say_of_the_bytes(folder, tmp_path, merged, single, document_attention, capsys):
    rows = tmp_path / "rows"
    spec = ModelSpec(str(folder / "model"))
    options: dict[str, Any] = {"dtype": "float32", "document_attention": document_attention, "accelerator": "cpu"}
    score(str(folder / "rows"), spec, "nll", align=True, output=str(rows), batch_tokens=90, **options)
    found, spread = stored(rows, "nll"), stored(rows, "nll_spread")
    assert f"{int(spread.sum())} of {spread.size} tokens: their bounds are not the model's" in capsys.readouterr().out
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    compared = 0
    for number, row in enumerate(datasets.load_from_disk(str(folder / "rows" / "train"))):
        lengths = row["document_lengths"] if document_attention else [len(row["input_ids"])]
        first = 0
        for length in lengths:
            ids = row["input_ids"][first : first + length]
            contents = pieces(merged, ids)
            named = [str(merged.convert_ids_to_tokens(index)) for index in ids]
            read = [
                token
                for name, content in zip(named, contents, strict=True)
                for token in ([single.convert_tokens_to_ids(name)] if name in MARKERS else content)
            ]
            if not is_text(bytes(token for token in read if token < 256)):
                first += length
                continue
            whole = slow_nll(model, {"input_ids": read, "document_lengths": [len(read)]}, True)
            nll = [value or 0.0 for value in whole]
            place = len(contents[0])
            for token, content in enumerate(contents[1:], first):
                if not spread[number, token]:
                    expected = math.fsum(nll[place - 1 : place - 1 + len(content)])
                    assert found[number, token] == pytest.approx(expected, abs=1e-4)
                    compared += 1
                place += len(content)
            assert found[number, first + length - 1] == 0
            first += length
    assert compared > 100


def test_of_the_same_tokenizer_the_column_is_that_of_a_plain_score(folder, tmp_path):
    spec = ModelSpec(str(folder / "same"))
    for name, align in (("aligned", True), ("plain", False)):
        score(str(folder / "rows"), spec, "nll", align=align, output=str(tmp_path / name), accelerator="cpu")
    assert shards_of(tmp_path / "aligned", "nll") == shards_of(tmp_path / "plain", "nll")
    assert not (tmp_path / "aligned" / "columns" / "train" / "nll_spread").exists()


def test_another_tokenizer_is_refused_without_align_and_for_what_is_not_of_the_rows_tokens(folder):
    spec = ModelSpec(str(folder / "model"))
    with pytest.raises(ConfigError, match=r"its tokenizer .* is not that of the rows"):
        score(str(folder / "rows"), spec, "nll")
    with pytest.raises(ConfigError, match="top_k: got 4 with align"):
        score(str(folder / "rows"), spec, "nll", align=True, top_k=4)
    with pytest.raises(ConfigError, match="entropy_column: got said with align"):
        score(str(folder / "rows"), spec, "nll", align=True, entropy_column="said")


def test_a_text_longer_than_the_models_window_is_refused(folder, single, tmp_path):
    save_model(tmp_path / "short", 5, single, vocab_size=259, max_position_embeddings=48)
    with pytest.raises(ConfigError, match=r"model: reads at most 48 tokens .* a text of row \d+ has \d+ of its own"):
        score(
            str(folder / "rows"), ModelSpec(str(tmp_path / "short")), "nll", align=True, output=str(tmp_path / "rows")
        )
