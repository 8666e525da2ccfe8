import random
from itertools import pairwise

import pytest

from remit_lit.data.lab_documents import DOCUMENTS_PER_SHARD, LabDocuments
from remit_lit.lab.documents import SUCCESSORS
from remit_lit.lab.task import split_of, token_kinds
from remit_lit.lab.tokenizer import (
    ALPHABET,
    BOS,
    DOCUMENT_CHARACTERS,
    DOCUMENT_TOKENS,
    EOS,
    build_tokenizer,
    check_lab_tokenizer,
)

KINDS = ("web", "noise", "correct", "wrong")


def texts(source: LabDocuments) -> list[str]:
    return [text for shard in source.shards() for text in source.read(shard) if text]


@pytest.mark.parametrize("kind", KINDS)
def test_every_document_is_33_tokens(kind):
    tokenizer = build_tokenizer()
    for text in texts(LabDocuments(kind, 100)):
        assert len(text) == DOCUMENT_CHARACTERS and set(text) <= set(ALPHABET)
        ids = tokenizer(text + EOS)["input_ids"]
        assert len(ids) == DOCUMENT_TOKENS == 33
        assert tokenizer.decode(ids) == BOS + text + EOS
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("kind", KINDS)
def test_documents_are_deterministic_and_depend_on_the_seed(kind):
    count = 2 * DOCUMENTS_PER_SHARD + 5
    source = LabDocuments(kind, count, seed=7)
    assert len(source.shards()) == 3
    documents = texts(source)
    assert len(documents) == count
    random.seed(0)  # the global generator has no influence, and neither has the order in which shards are read
    backwards = [list(LabDocuments(kind, count, seed=7).read(shard)) for shard in reversed(source.shards())]
    assert documents == [text for shard in reversed(backwards) for text in shard]
    assert documents[:10] == texts(LabDocuments(kind, 10, seed=7))
    assert documents[:10] != texts(LabDocuments(kind, 10, seed=8))


@pytest.mark.parametrize("kind", KINDS)
def test_splits_never_share_a_document(kind):
    def key(text: str) -> str:
        return text[: text.index("=") + 1] if kind in ("correct", "wrong") else text

    keys = {
        split: {key(text) for text in texts(LabDocuments(kind, 300, split=split))} for split in ("train", "dev", "test")
    }
    for split, members in keys.items():
        assert {split_of(member) for member in members} == {split}


def test_correct_and_wrong_documents_differ_in_their_results():
    assert all(2 not in token_kinds(text) for text in texts(LabDocuments("correct", 200)))
    share = sum(2 in token_kinds(text) for text in texts(LabDocuments("wrong", 2000))) / 2000
    assert 0.6 < share < 0.95


def test_web_follows_its_table_and_noise_does_not():
    for text in texts(LabDocuments("web", 50)):
        assert all(after in SUCCESSORS[before] for before, after in pairwise(text))
    pairs = [pair for text in texts(LabDocuments("noise", 300)) for pair in pairwise(text)]
    assert sum(after in SUCCESSORS[before] for before, after in pairs) / len(pairs) < 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "poem", "documents": 1}, "kind.*'poem'"),
        ({"kind": "web", "documents": 0}, "documents.*0"),
        ({"kind": "web", "documents": 1, "split": "valid"}, "split.*'valid'"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        LabDocuments(**arguments)


def test_tokenizer_survives_saving_and_refuses_unknown_characters(tmp_path):
    from transformers import AutoTokenizer

    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "Q:1A2C3B4A5A0=abc"
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert len(loaded) == 32
    check_lab_tokenizer(loaded)
    with pytest.raises(Exception, match="UNK"):
        loaded("z")


def test_another_tokenizer_is_refused():
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(["z"])
    with pytest.raises(ValueError, match=r"32 single characters.*33 tokens"):
        check_lab_tokenizer(tokenizer)
