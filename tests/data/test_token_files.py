"""Raw token ids as a source: the same rows as from their text, and what is said about files that cannot be ids."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest

import remit_lit.data.token_files as module
from remit_lit.data.manifest import read_manifest
from remit_lit.data.prepare import prepare
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.sources import JsonLines
from remit_lit.data.token_files import TokenFiles
from remit_lit.errors import ConfigError, DataError
from remit_lit.models.tokenization import load_tokenizer

TEXTS = ["plain", "ünïcödé and 漢字", "x" * 90, "last one \U0001f600"] * 5


@pytest.fixture
def ids(byte_tokenizer_dir: Path) -> list[list[int]]:
    """Token ids of the texts with their EOS."""
    tokenizer = load_tokenizer(str(byte_tokenizer_dir))
    return [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in TEXTS]


def write(path: Path, documents: list[list[int]], dtype: str = "<u4") -> Path:
    path.write_bytes(np.array([token for ids in documents for token in ids], dtype).tobytes())
    return path


def documents_of(source: TokenFiles, vocabulary: int = 10**6) -> list[list[int]]:
    return [ids.tolist() for shard in source.shards() for ids in source.read_ids(shard, vocabulary)]


@pytest.mark.parametrize("workers", [1, 2])
def test_rows_are_those_of_the_text(workers, ids, byte_tokenizer_dir, tmp_path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    write(tmp_path / "a.npy", ids[:7])
    write(tmp_path / "b.npy", ids[7:])
    token_files = TokenFiles(str(tmp_path / "*.npy"), end=ids[0][-1])
    rows, counts = [], []
    for name, source in (("text", JsonLines(str(tmp_path / "a.jsonl"))), ("tokens", token_files)):
        settings = PrepareSettings(str(byte_tokenizer_dir), {"web": source}, 32, num_workers=workers)
        made = prepare(tmp_path / name, settings)
        rows.append(datasets.load_from_disk(str(made / "train"))["input_ids"][:])
        counts.append(read_manifest(made).counts)
    assert rows[0] == rows[1]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("piece", [1, 2, 5, 17, 64, 1000])
def test_pieces_give_each_document_once(piece, ids, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "PIECE_TOKENS", piece)
    source = TokenFiles(str(write(tmp_path / "a.npy", ids)), end=ids[0][-1])
    assert documents_of(source) == ids


def test_a_last_document_without_its_end_is_kept(ids, tmp_path) -> None:
    source = TokenFiles(str(write(tmp_path / "a.npy", [*ids[:2], [5, 6]])), end=ids[0][-1])
    assert documents_of(source) == [*ids[:2], [5, 6]]


def test_two_byte_ids(ids, tmp_path) -> None:
    source = TokenFiles(str(write(tmp_path / "a.npy", ids, "<u2")), end=ids[0][-1], dtype="uint16")
    assert documents_of(source) == ids


def test_files_that_are_no_ids_are_refused_by_name(ids, byte_tokenizer_dir, tmp_path) -> None:
    end = ids[0][-1]
    np.save(tmp_path / "saved.npy", np.arange(8, dtype=np.uint32))
    with pytest.raises(DataError, match=r"saved\.npy: has NumPy's header"):
        documents_of(TokenFiles(str(tmp_path / "saved.npy"), end))
    (tmp_path / "odd.npy").write_bytes(b"12345")
    with pytest.raises(DataError, match=r"odd\.npy: 5 bytes are no whole number of uint32"):
        documents_of(TokenFiles(str(tmp_path / "odd.npy"), end))
    write(tmp_path / "large.npy", [[3, end], [4, 70000, end]])
    with pytest.raises(DataError, match=r"large\.npy, token 3: id 70000, but the tokenizer has 300 tokens"):
        documents_of(TokenFiles(str(tmp_path / "large.npy"), end), 300)
    settings = PrepareSettings(str(byte_tokenizer_dir), {"web": TokenFiles(str(tmp_path / "large.npy"), end + 1)}, 2)
    with pytest.raises(ConfigError, match=rf"sources\.web\.init_args\.end: got {end + 1}, but .*EOS is {end}"):
        prepare(tmp_path / "rows", settings)
    with pytest.raises(ConfigError, match="dtype: got 'int8'"):
        TokenFiles("a", 1, dtype="int8")  # type: ignore[arg-type]


def test_they_are_compared_with_evaluation_items_by_their_text(ids, byte_tokenizer_dir, tmp_path) -> None:
    (tmp_path / "items.txt").write_text("one two three four five six\n")
    tokenizer = load_tokenizer(str(byte_tokenizer_dir))
    shared = [*tokenizer("say one two three four five six now")["input_ids"], tokenizer.eos_token_id]
    source = TokenFiles(str(write(tmp_path / "a.npy", [*ids, shared])), end=ids[0][-1])
    settings = PrepareSettings(
        str(byte_tokenizer_dir), {"web": source}, 32, decontaminate=[str(tmp_path / "items.txt")], decontaminate_ngram=5
    )
    facts = read_manifest(prepare(tmp_path / "rows", settings)).decontamination
    assert facts is not None and facts.dropped == {"web": 1}
