"""Which tokenizers are taken for the same, and which are not."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from remit_lit.errors import ConfigError
from remit_lit.lab.tokenizer import build_tokenizer
from remit_lit.models.tokenization import load_tokenizer, require_same_tokenizer, tokenizer_fingerprint
from tests.byte_level import byte_tokenizer

WORDS = {"a": 0, "b": 1, "ab": 2, "c": 3}


def bpe(
    vocabulary: dict[str, int] = WORDS,
    merges: list[tuple[str, str]] | None = None,
    lowercase: bool = False,
    whitespace: bool = False,
    **special: Any,
) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(vocabulary, [("a", "b")] if merges is None else merges))
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    if whitespace:
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{"eos_token": "<eos>", **special})


def test_a_tokenizer_keeps_its_fingerprint_through_saving(tmp_path: Path) -> None:
    for index, tokenizer in enumerate((bpe(), build_tokenizer(), byte_tokenizer())):
        tokenizer.save_pretrained(tmp_path / str(index))
        loaded = load_tokenizer(str(tmp_path / str(index)))
        assert tokenizer_fingerprint(loaded) == tokenizer_fingerprint(tokenizer)


def test_using_a_tokenizer_does_not_change_its_fingerprint() -> None:
    tokenizer = bpe(pad_token="<pad>")
    before = tokenizer_fingerprint(tokenizer)
    tokenizer(["ab", "abcabc"], padding=True, truncation=True, max_length=4)
    assert tokenizer_fingerprint(tokenizer) == before


@pytest.mark.parametrize(
    "other",
    [
        bpe(eos_token="<end>"),
        bpe(eos_token="<eos>", pad_token="<pad>", bos_token="<bos>"),
        bpe(additional_special_tokens=["<think>", "</think>"]),
    ],
)
def test_special_tokens_and_templates_do_not_count(other: PreTrainedTokenizerFast) -> None:
    other.chat_template = "{{ messages }}"
    assert tokenizer_fingerprint(other) == tokenizer_fingerprint(bpe())


@pytest.mark.parametrize(
    "other",
    [
        bpe({"a": 1, "b": 0, "ab": 2, "c": 3}),
        bpe({**WORDS, "d": 4}),
        bpe(merges=[]),
        bpe(lowercase=True),
        bpe(whitespace=True),
        build_tokenizer(),
        byte_tokenizer(),
    ],
    ids=["swapped ids", "one token more", "no merges", "normaliser", "pre-tokeniser", "lab", "bytes"],
)
def test_what_turns_text_into_other_ids_counts(other: PreTrainedTokenizerFast) -> None:
    assert tokenizer_fingerprint(other) != tokenizer_fingerprint(bpe())


def test_different_tokenizers_are_refused_naming_both_sides() -> None:
    require_same_tokenizer("policy", "a" * 32, "the rows", "a" * 32)
    with pytest.raises(ConfigError, match=r"policy: its tokenizer \(aaaaaaaa\) is not that of the rows \(bbbbbbbb\)"):
        require_same_tokenizer("policy", "a" * 32, "the rows", "b" * 32)


def test_what_is_no_tokenizer_is_refused(tmp_path: Path, tiny_policy_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"tokenizer: directory .* has none"):
        load_tokenizer(str(tmp_path))
    with pytest.raises(ConfigError, match="tokenizer: '/no/such' is neither a directory nor a hub id"):
        load_tokenizer("/no/such")
    shutil.copytree(tiny_policy_dir, tmp_path / "model", ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(ConfigError, match=r"tokenizer: .*model"):
        load_tokenizer(str(tmp_path / "model"))


def test_a_damaged_tokenizer_file_is_refused(tmp_path: Path) -> None:
    build_tokenizer().save_pretrained(tmp_path)
    whole = (tmp_path / "tokenizer.json").read_text()
    for damaged in (whole[: len(whole) // 2], "", '{"model": {}}'):
        (tmp_path / "tokenizer.json").write_text(damaged)
        with pytest.raises(ConfigError, match="tokenizer: "):
            load_tokenizer(str(tmp_path))


def test_a_tokenizer_without_eos_is_refused(tmp_path: Path) -> None:
    PreTrainedTokenizerFast(tokenizer_object=bpe().backend_tokenizer).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="defines no EOS token"):
        load_tokenizer(str(tmp_path))


def test_the_embedded_tokenizer_is_found_by_name() -> None:
    assert tokenizer_fingerprint(load_tokenizer("lab/base")) == tokenizer_fingerprint(build_tokenizer())
