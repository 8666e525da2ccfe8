"""The byte-level tokenizer: any text comes back, and the shipped files are those that the kit builds."""

import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from remit_lit.errors import ConfigError
from remit_lit.models import ModelSpec
from remit_lit.models.byte_tokenizer import build_byte_tokenizer
from remit_lit.models.locations import asset_path
from remit_lit.models.tokenization import load_tokenizer, tokenizer_fingerprint
from tests.byte_level import byte_tokenizer

TEXTS = {
    "ascii": "def f(x):\n\treturn x  # two\n",
    "empty": "",
    "multi-byte": "Grüße, Ελλάδα, 日本語, עברית",
    "combining": "e\u0301 is not \u00e9",
    "emoji": "👩‍👩‍👧 🏳️‍🌈 🎉",
    "nul": "a\x00b\x01\x7f",
    "crlf": "one\r\ntwo\rthree\u2028four\x85",
    "spaces": "   lead, trail \t \u00a0 ",
    "mark": "\ufeffa byte order mark",
    "highest": "\U0010ffff\ue000\ufffd",
}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer("lab/bytes")


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_becomes_bos_and_its_bytes_and_comes_back(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert ids == [256, *text.encode()]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids[1:]


def test_every_character_comes_back(tokenizer: PreTrainedTokenizerBase) -> None:
    text = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x11000), *range(0x1F000, 0x20000)]))
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert bytes(ids) == text.encode()
    assert tokenizer.decode(ids) == text


def test_special_tokens_are_the_last_three(tokenizer: PreTrainedTokenizerBase) -> None:
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (256, 257, 258)
    assert len(tokenizer) == 259
    assert tokenizer.decode([104, 105, 257], skip_special_tokens=True) == "hi"
    assert tokenizer("a<|eos|>b")["input_ids"] == [256, 97, 257, 98]


def test_the_shipped_files_are_those_that_are_built(tmp_path: Path) -> None:
    build_byte_tokenizer().save_pretrained(tmp_path)
    shipped = {path.name: json.loads(path.read_text()) for path in asset_path("bytes").iterdir()}
    assert shipped == {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}


def test_it_reads_the_same_tokens_as_built_and_as_any_byte_level_one(tokenizer: PreTrainedTokenizerBase) -> None:
    fingerprint = tokenizer_fingerprint(tokenizer)
    assert fingerprint == tokenizer_fingerprint(build_byte_tokenizer())
    assert fingerprint == tokenizer_fingerprint(byte_tokenizer())


def test_it_is_no_model() -> None:
    with pytest.raises(ConfigError, match="'lab/bytes' is not a model directory"):
        ModelSpec(path="lab/bytes").check("model.policy")
