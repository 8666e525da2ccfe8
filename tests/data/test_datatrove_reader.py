"""datatrove's readers as sources: the rows of our own, and what is said about records that they pass over."""

import gzip
import importlib
import io
import json
import sys
import types
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet
import pytest

from remit_lit.data.datatrove_reader import DatatroveReader
from remit_lit.data.manifest import read_manifest
from remit_lit.data.prepare import prepare
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.sources import JsonLines, Source
from remit_lit.errors import ConfigError, DataError
from tests.data.texts import corpus, tokens_of

TEXTS = corpus("web", 90, longest=20)


@pytest.fixture(autouse=True)
def _installed() -> None:
    pytest.importorskip("datatrove", reason="needs the extra datatrove")


def lines(texts: list[Any]) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


def write_files(directory: Path) -> None:
    directory.mkdir()
    for index in range(3):
        (directory / f"{index}.jsonl").write_bytes(lines(TEXTS[index * 30 : index * 30 + 30]))


def reader(kind: str, on_malformed: Any = "raise", pieces: int = 4, **arguments: Any) -> DatatroveReader:
    return DatatroveReader(f"datatrove.pipeline.readers.{kind}", arguments, on_malformed, pieces)


def texts_of(source: Source) -> list[str | None]:
    return [text for shard in source.shards() for text in source.read(shard)]


@pytest.mark.parametrize("workers", [1, 2])
def test_rows_are_those_of_our_own_reader(workers: int, byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    write_files(tmp_path / "data")
    theirs = reader("JsonlReader", data_folder=str(tmp_path / "data"), glob_pattern="*.jsonl")
    made = []
    for name, source in (("ours", JsonLines(str(tmp_path / "data" / "*.jsonl"))), ("theirs", theirs)):
        settings = PrepareSettings(str(byte_tokenizer_dir), {"web": source}, 32, num_workers=workers)
        made.append(prepare(tmp_path / name, settings))
    assert tokens_of(made[0]) == tokens_of(made[1])
    assert read_manifest(made[0]).counts == read_manifest(made[1]).counts
    assert read_manifest(made[1]).settings["sources"]["web"]["arguments"]["glob_pattern"] == "*.jsonl"


def test_compressed_and_parquet_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines(TEXTS)))
    assert texts_of(reader("JsonlReader", data_folder=str(tmp_path))) == TEXTS
    (tmp_path / "parquet").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"body": TEXTS, "id": TEXTS}), tmp_path / "parquet" / "a.parquet")
    assert texts_of(reader("ParquetReader", data_folder=str(tmp_path / "parquet"), text_key="body")) == TEXTS


@pytest.fixture
def crawl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A WET file of a crawl: its texts, of which one is Latin-1, and a record of another type."""
    pytest.importorskip("cchardet")
    warcio = pytest.importorskip("warcio")
    try:
        importlib.import_module("magic")
    except ImportError:  # without the system's libmagic, which is asked only for records that name no type
        monkeypatch.setitem(sys.modules, "magic", types.ModuleType("magic"))
    path = tmp_path / "crawl" / "a.warc.wet.gz"
    path.parent.mkdir()
    with open(path, "wb") as stream:
        writer = warcio.WARCWriter(stream, gzip=True)
        writer.write_record(writer.create_warcinfo_record("a", {"software": "test"}))
        for number, text in enumerate(CRAWLED):
            encoded = io.BytesIO(text.encode("latin-1" if number == 1 else "utf-8"))
            headers = {"WARC-Identified-Payload-Type": "text/plain"}
            url = f"https://example.org/{number}"
            writer.write_record(writer.create_warc_record(url, "conversion", encoded, warc_headers_dict=headers))
        pdf = {"WARC-Identified-Payload-Type": "application/pdf"}
        writer.write_record(
            writer.create_warc_record("https://example.org/p", "conversion", io.BytesIO(b"%PDF"), warc_headers_dict=pdf)
        )
    return path


CRAWLED = ["one page\n", "le café où la rivière s'arrête, près de l'été\n" * 4, "日本語\n"]


def test_texts_of_a_crawl(crawl: Path) -> None:
    assert texts_of(reader("WarcReader", data_folder=str(crawl.parent))) == CRAWLED


def test_a_crawl_that_is_cut_is_named(crawl: Path) -> None:
    crawl.write_bytes(crawl.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"a\.warc\.wet\.gz: cannot be read after record \d+ \(Compressed file ended"):
        texts_of(reader("WarcReader", data_folder=str(crawl.parent)))


def test_files_of_another_filesystem() -> None:
    with fsspec.open("memory://bucket/a.jsonl", "wb") as stream:
        stream.write(lines(TEXTS))
    assert texts_of(reader("JsonlReader", data_folder="memory://bucket")) == TEXTS


@pytest.mark.parametrize("streaming", [True, False])
def test_a_dataset_has_pieces_that_cover_it(streaming: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    write_files(tmp_path / "data")
    options = {"data_files": str(tmp_path / "data" / "*.jsonl"), "split": "train"}
    source = reader("HuggingFaceDatasetReader", dataset="json", dataset_options=options, streaming=streaming)
    assert len(source.shards()) == 4
    assert sorted(map(str, texts_of(source))) == sorted(TEXTS)


BAD = [
    (b"{not json", "record 2: Error when reading"),
    (b'{"body": "x"}', r"record 2: field 'text' is missing; it has \['body'\]"),
    (b'{"text": null}', "record 2: field 'text' holds NoneType, not text"),
    (b'{"text": 5}', "record 2: field 'text' holds int, not text"),
]


@pytest.mark.parametrize(("bad", "message"), BAD)
def test_malformed_records_are_named_or_skipped(bad: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(["good"]) + bad + b"\n" + lines(["", "fine"]))
    with pytest.raises(DataError, match=rf"{path}, {message}"):
        texts_of(reader("JsonlReader", data_folder=str(tmp_path)))
    assert texts_of(reader("JsonlReader", "skip", data_folder=str(tmp_path))) == ["good", None, None, "fine"]


def test_a_file_that_is_cut_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(lines([f"{i * 7919 % 10007}" for i in range(5000)]))
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz"):
        texts_of(reader("JsonlReader", data_folder=str(tmp_path)))


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    folder = str(tmp_path)
    for source, message in (
        (reader("JsnolReader", data_folder=folder), r"reader: got 'datatrove\.pipeline\.readers\.JsnolReader'"),
        (reader("JsonlReader"), r"arguments: .*data_folder"),
        (reader("JsonlReader", data_folder=folder, limit=5), r"arguments\.limit: got 5; .*num_tokens"),
        (reader("JsonlReader", data_folder=folder, shuffle_files=True), r"arguments\.shuffle_files: got True.*seed"),
        (DatatroveReader("JsonlReader", {}), r"reader: got 'JsonlReader'"),
    ):
        with pytest.raises(ConfigError, match=message):
            source.check()
