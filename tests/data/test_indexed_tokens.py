"""Megatron-LM's and datatrove's files of ids, written here by their documented layouts: the rows of their text."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest

import remit_lit.data.indexed_tokens as module
from remit_lit.data.indexed_tokens import DatatroveTokens, MegatronFiles
from remit_lit.data.manifest import read_manifest
from remit_lit.data.prepare import prepare
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.sources import JsonLines
from remit_lit.data.token_files import TokenSource
from remit_lit.errors import ConfigError, DataError
from tests.byte_level import BYTE_EOS

TEXTS = ["plain", "ünïcödé and 漢字", "x" * 90, "last one \U0001f600"] * 5
IDS = [[*text.encode(), BYTE_EOS] for text in TEXTS]
CODES = {"u1": 1, "i2": 3, "i4": 4, "i8": 5, "f4": 7, "u2": 8}


def write_megatron(path: Path, documents: list[list[int]], kind: str = "i4", per_sequence: int = 7) -> Path:
    """Megatron-LM's ``IndexedDatasetBuilder``: documents of several sequences."""
    sequences = [[ids[i : i + per_sequence] for i in range(0, len(ids), per_sequence)] for ids in documents]
    lengths = [len(sequence) for of_document in sequences for sequence in of_document]
    size = np.dtype(kind).itemsize
    ends = [0]
    for of_document in sequences:
        ends.append(ends[-1] + len(of_document))
    path.write_bytes(b"".join(np.array(ids, f"<{kind}").tobytes() for ids in documents))
    path.with_suffix(".idx").write_bytes(
        b"MMIDIDX\x00\x00"
        + struct.pack("<QBQQ", 1, CODES[kind], len(lengths), len(ends))
        + struct.pack(f"<{len(lengths)}i", *lengths)
        + struct.pack(f"<{len(lengths)}q", *(size * sum(lengths[:i]) for i in range(len(lengths))))
        + struct.pack(f"<{len(ends)}q", *ends)
    )
    return path


def write_datatrove(path: Path, documents: list[list[int]], kind: str = "H", metadata: bool = True) -> Path:
    """datatrove's ``TokenizedFile``."""
    path.write_bytes(b"".join(struct.pack(f"<{len(ids)}{kind}", *ids) for ids in documents))
    ends = [sum(map(len, documents[: i + 1])) for i in range(len(documents))]
    Path(f"{path}.index").write_bytes(struct.pack(f"<{len(ends)}Q", *ends))
    if metadata:
        Path(f"{path}.metadata").write_text(f"org/tokenizer|{struct.calcsize(kind)}\n{ends[-1]}\n{ends[-1]} T")
    return path


def documents_of(source: TokenSource, vocabulary: int = 10**6) -> list[list[int]]:
    return [ids.tolist() for shard in source.shards() for ids in source.read_ids(shard, vocabulary)]


def megatron(directory: Path, documents: list[list[int]]) -> TokenSource:
    return MegatronFiles(str(write_megatron(directory / "a.bin", documents)), BYTE_EOS)


def datatrove(directory: Path, documents: list[list[int]]) -> TokenSource:
    return DatatroveTokens(str(write_datatrove(directory / "a.ds", documents)), BYTE_EOS)


KINDS = [megatron, datatrove]
Write = Callable[[Path, list[list[int]]], TokenSource]


@pytest.mark.parametrize("write", KINDS)
@pytest.mark.parametrize("has_end", [True, False])
def test_rows_are_those_of_the_text(write: Write, has_end: bool, byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    ids = write(tmp_path, IDS if has_end else [document[:-1] for document in IDS])
    rows, counts = [], []
    for name, source in (("text", JsonLines(str(tmp_path / "a.jsonl"))), ("ids", ids)):
        made = prepare(tmp_path / name, PrepareSettings(str(byte_tokenizer_dir), {"web": source}, 32))
        rows.append(datasets.load_from_disk(str(made / "train"))["input_ids"][:])
        counts.append(read_manifest(made).counts)
    assert rows[0] == rows[1] and counts[0] == counts[1]


@pytest.mark.parametrize("write", KINDS)
@pytest.mark.parametrize("piece", [1, 5, 17, 64, 10**6])
def test_pieces_give_each_document_once(
    piece: int, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE_TOKENS", piece)
    documents = [[], *IDS[:3], [], [], *IDS[3:], []]
    source = write(tmp_path, documents)
    assert documents_of(source) == documents
    assert (len(source.shards()) > 1) == (piece < 100)


@pytest.mark.parametrize("kind", ["u2", "i2", "i4", "i8"])
def test_megatrons_kinds_of_ids(kind: str, tmp_path: Path) -> None:
    assert documents_of(MegatronFiles(str(write_megatron(tmp_path / "a.bin", IDS, kind)), BYTE_EOS)) == IDS


def test_the_size_of_datatroves_ids(tmp_path: Path) -> None:
    large = [[70_000, 3], [4]]
    assert documents_of(DatatroveTokens(str(write_datatrove(tmp_path / "a.ds", large, "I")), 3)) == large
    path = str(write_datatrove(tmp_path / "b.ds", large, "I", metadata=False))
    assert documents_of(DatatroveTokens(path, 3, "uint32")) == large
    with pytest.raises(DataError, match=r"b\.ds: no b\.ds\.metadata says .*; give dtype"):
        documents_of(DatatroveTokens(path, 3))
    with pytest.raises(DataError, match=r"a\.ds: dtype is uint16, but a\.ds\.metadata says uint32"):
        documents_of(DatatroveTokens(str(tmp_path / "a.ds"), 3, "uint16"))


@pytest.mark.parametrize("write", KINDS)
def test_ids_outside_the_vocabulary_are_named(write: Write, tmp_path: Path) -> None:
    source = write(tmp_path, [[3, 4], [5, 300, 6]])
    with pytest.raises(DataError, match=r"a\.(bin|ds), token 3: id 300, but the tokenizer has 300 tokens"):
        documents_of(source, 300)
    assert documents_of(source, 301)


def test_negative_ids_are_named(tmp_path: Path) -> None:
    source = MegatronFiles(str(write_megatron(tmp_path / "a.bin", [[3, -1]])), BYTE_EOS)
    with pytest.raises(DataError, match=r"a\.bin, token 1: id -1"):
        documents_of(source)


def test_another_end_than_the_tokenizers_is_refused(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    source = megatron(tmp_path, IDS)
    source.end = 5
    with pytest.raises(ConfigError, match=rf"sources\.web\.init_args\.end: got 5, but .*EOS is {BYTE_EOS}"):
        prepare(tmp_path / "rows", PrepareSettings(str(byte_tokenizer_dir), {"web": source}, 8))


def cut(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])


@pytest.mark.parametrize(
    ("write", "name", "damage", "message"),
    [
        (megatron, "a.bin", lambda path: cut(path, 41), r"a\.bin: 41 bytes are no whole number of int32"),
        (megatron, "a.bin", lambda path: cut(path, 40), r"a\.bin: holds 10 tokens, but a\.idx says \d+"),
        (megatron, "a.idx", Path.unlink, r"a\.idx: is missing"),
        (megatron, "a.idx", lambda path: cut(path, 20), r"a\.idx: is cut short at 20 bytes"),
        (megatron, "a.idx", lambda path: cut(path, 200), r"a\.idx: is cut short at 200 bytes"),
        (megatron, "a.idx", lambda path: path.write_bytes(b"x" * 99), r"a\.idx: is no index of Megatron-LM"),
        (datatrove, "a.ds", lambda path: cut(path, 41), r"a\.ds: 41 bytes are no whole number of uint16"),
        (datatrove, "a.ds", lambda path: cut(path, 40), r"a\.ds: holds 20 tokens, but a\.ds\.index says \d+"),
        (datatrove, "a.ds.index", Path.unlink, r"a\.ds\.index: is missing"),
        (datatrove, "a.ds.index", lambda path: cut(path, 20), r"a\.ds\.index: 20 bytes are no whole number of uint64"),
        (datatrove, "a.ds.index", lambda path: cut(path, 8), r"a\.ds: holds \d+ tokens, but a\.ds\.index says 6"),
        (datatrove, "a.ds.loss", Path.touch, r"a\.ds: has a loss mask"),
    ],
)
def test_damaged_files_are_named(
    write: Write, name: str, damage: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    source = write(tmp_path, IDS)
    damage(tmp_path / name)
    with pytest.raises(DataError, match=message):
        documents_of(source)


def test_an_index_that_is_not_of_its_documents_is_named(tmp_path: Path) -> None:
    index = write_megatron(tmp_path / "a.bin", IDS).with_suffix(".idx")
    whole = index.read_bytes()
    for place, message in ((-1, "documents are not those"), (34 + 4, "sequences do not follow each other")):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        index.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"a\.idx: its {message}"):
            documents_of(MegatronFiles(str(tmp_path / "a.bin"), BYTE_EOS))
    write_megatron(tmp_path / "a.bin", IDS, "f4")
    with pytest.raises(DataError, match=r"a\.idx: version 1 with ids of kind 7"):
        documents_of(MegatronFiles(str(tmp_path / "a.bin"), BYTE_EOS))
    with pytest.raises(ConfigError, match=r"files: got 'a\.idx'; give the \.bin files"):
        MegatronFiles("a.idx", BYTE_EOS)
