"""Sources of documents: the same text from every format, and what is said about records that are malformed."""

import gzip
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

import remit_lit.data.sources as sources_module
from remit_lit.data.datatrove_reader import DatatroveReader
from remit_lit.data.prepare import prepare
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.sources import HuggingFaceDataset, JsonLines, Parquet, PlainText, Source
from remit_lit.errors import ConfigError, DataError

TEXTS = ["plain", "ünïcödé and 漢字", 'a "quoted" \\ line', "tab\there", "x" * 300, "last one \U0001f600"]
MULTILINE = "first line\nsecond line\n\nfourth line"


def texts_of(source: Source) -> list[str]:
    return [text for shard in source.shards() for text in source.read(shard) if text is not None]


def json_lines(texts: list[str]) -> bytes:
    return b"".join(json.dumps({"text": text, "id": i}).encode() + b"\n" for i, text in enumerate(texts))


def as_jsonl(directory: Path) -> Source:
    (directory / "a.jsonl").write_bytes(json_lines(TEXTS[:2]))
    (directory / "b.jsonl").write_bytes(json_lines(TEXTS[2:]))
    return JsonLines(str(directory / "*.jsonl"))


def as_jsonl_gz(directory: Path) -> Source:
    (directory / "a.jsonl.gz").write_bytes(gzip.compress(json_lines(TEXTS)))
    return JsonLines([str(directory / "a.jsonl.gz")])


def as_parquet(directory: Path) -> Source:
    table = pyarrow.table({"id": range(len(TEXTS)), "body": TEXTS})
    pyarrow.parquet.write_table(table, directory / "a.parquet", row_group_size=2)
    return Parquet(str(directory / "a.parquet"), field="body")


def as_lines(directory: Path) -> Source:
    (directory / "a.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    return PlainText(str(directory / "a.txt"), document="line")


def as_text_files(directory: Path) -> Source:
    for index, text in enumerate(TEXTS):
        (directory / f"{index}.txt").write_text(text, encoding="utf-8")
    return PlainText(str(directory / "?.txt"))


def as_saved_dataset(directory: Path) -> Source:
    datasets.Dataset.from_dict({"text": TEXTS, "id": list(range(len(TEXTS)))}).save_to_disk(str(directory / "saved"))
    return HuggingFaceDataset(str(directory / "saved"))


def as_saved_dataset_dict(directory: Path) -> Source:
    splits = {
        "train": datasets.Dataset.from_dict({"text": TEXTS}),
        "other": datasets.Dataset.from_dict({"text": ["no"]}),
    }
    datasets.DatasetDict(splits).save_to_disk(str(directory / "saved"))
    return HuggingFaceDataset(str(directory / "saved"), split="train")


def as_directory_of_files(directory: Path) -> Source:
    (directory / "hub").mkdir()
    (directory / "hub" / "train.jsonl").write_bytes(json_lines(TEXTS))
    return HuggingFaceDataset(str(directory / "hub"))


FORMATS: list[Callable[[Path], Source]] = [
    as_jsonl,
    as_jsonl_gz,
    as_parquet,
    as_lines,
    as_text_files,
    as_saved_dataset,
    as_saved_dataset_dict,
    as_directory_of_files,
]


@pytest.fixture(autouse=True)
def _datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")


@pytest.mark.parametrize("write", FORMATS)
def test_every_format_gives_the_same_documents_in_order(write: Callable[[Path], Source], tmp_path: Path) -> None:
    assert texts_of(write(tmp_path)) == TEXTS


def test_documents_with_line_breaks_stay_whole(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(MULTILINE)
    (tmp_path / "a.jsonl").write_bytes(json_lines([MULTILINE]))
    assert texts_of(PlainText(str(tmp_path / "a.txt"), document="file")) == [MULTILINE]
    assert texts_of(JsonLines(str(tmp_path / "a.jsonl"))) == [MULTILINE]
    lines = texts_of(PlainText(str(tmp_path / "a.txt"), document="line"))
    assert lines == ["first line", "second line", "fourth line"]


def test_windows_line_ends_are_not_part_of_a_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\r\n")
    (tmp_path / "a.jsonl").write_bytes(json_lines(["one", "two"]).replace(b"\n", b"\r\n"))
    assert texts_of(JsonLines(str(tmp_path / "a.jsonl"))) == ["one", "two"]
    assert texts_of(PlainText(str(tmp_path / "a.txt"), document="line")) == ["one", "two"]


@pytest.mark.parametrize("final_newline", [True, False])
@pytest.mark.parametrize("piece", [1, 2, 7, 16, 30, 31, 32, 64, 1000, 10**6])
def test_byte_ranges_give_each_line_exactly_once(
    piece: int, final_newline: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{i} " + "ab漢"[: i % 4] * (i % 9) for i in range(40)]
    raw = json_lines(texts)
    (tmp_path / "a.jsonl").write_bytes(raw if final_newline else raw[:-1])
    monkeypatch.setattr(sources_module, "_PIECE_BYTES", piece)
    source = JsonLines(str(tmp_path / "a.jsonl"))
    assert len(source.shards()) == -(-(len(raw) - (not final_newline)) // piece)
    assert texts_of(source) == texts


def test_pieces_of_compressed_files_are_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources_module, "_PIECE_BYTES", 10)
    source = as_jsonl_gz(tmp_path)
    assert len(source.shards()) == 1
    assert texts_of(source) == TEXTS


def test_a_dataset_of_many_rows_is_cut_into_shards_that_cover_it(tmp_path: Path) -> None:
    texts = [f"document {i}" for i in range(157)]
    datasets.Dataset.from_dict({"text": texts}).save_to_disk(str(tmp_path / "saved"))
    source = HuggingFaceDataset(str(tmp_path / "saved"))
    assert len(source.shards()) > 1
    assert texts_of(source) == texts


def bad_jsonl(line: bytes) -> Callable[[Path], tuple[type[Source], Path]]:
    def write(directory: Path) -> tuple[type[Source], Path]:
        path = directory / "bad.jsonl"
        path.write_bytes(json_lines(["good"]) + line + b"\n" + json_lines(["fine"]))
        return JsonLines, path

    return write


def bad_gz(directory: Path) -> tuple[type[Source], Path]:
    path = directory / "bad.jsonl.gz"
    path.write_bytes(gzip.compress(json_lines(["good"]) + b"nonsense\n" + json_lines(["fine"])))
    return JsonLines, path


def bad_text_line(directory: Path) -> tuple[type[Source], Path]:
    path = directory / "bad.txt"
    path.write_bytes(b"good\n\xff\xfe\nfine\n")
    return PlainText, path


def null_parquet(directory: Path) -> tuple[type[Source], Path]:
    path = directory / "bad.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["good", None, "fine"]}), path)
    return Parquet, path


MALFORMED = [
    pytest.param(bad_jsonl(b"{not json"), ["line 2", "not JSON"], id="not-json"),
    pytest.param(bad_jsonl(b'{"body": "x"}'), ["line 2", "'text'", "body"], id="no-field"),
    pytest.param(bad_jsonl(b'{"text": 5}'), ["line 2", "'text'", "int"], id="number"),
    pytest.param(bad_jsonl(b'{"text": null}'), ["line 2", "'text'", "NoneType"], id="null"),
    pytest.param(bad_jsonl(b'["text"]'), ["line 2"], id="list"),
    pytest.param(bad_jsonl(b"17"), ["line 2"], id="bare-number"),
    pytest.param(bad_jsonl(b'{"text": "\xff\xfe"}'), ["line 2", "UTF-8"], id="not-utf8"),
    pytest.param(bad_jsonl(b'{"text": "half \\ud800 of a pair"}'), ["line 2", "UTF-8"], id="lone-surrogate"),
    pytest.param(bad_gz, ["line 2", "not JSON"], id="gz"),
    pytest.param(bad_text_line, ["line 2", "UTF-8"], id="text-line"),
    pytest.param(null_parquet, ["row 2", "'text'"], id="parquet-null"),
]


def make(kind: type[Source], path: Path, on_malformed: str) -> Source:
    options = {"document": "line"} if kind is PlainText else {}
    return kind(str(path), on_malformed=on_malformed, **options)  # type: ignore[call-arg]


@pytest.mark.parametrize(("write", "said"), MALFORMED)
def test_malformed_records_are_named_by_file_and_line(
    write: Callable[[Path], tuple[type[Source], Path]], said: list[str], tmp_path: Path
) -> None:
    kind, path = write(tmp_path)
    with pytest.raises(DataError) as raised:
        texts_of(make(kind, path, "raise"))
    for part in (str(path), *said):
        assert part in str(raised.value)


@pytest.mark.parametrize(("write", "said"), MALFORMED)
def test_malformed_records_are_skipped_where_asked(
    write: Callable[[Path], tuple[type[Source], Path]], said: list[str], tmp_path: Path
) -> None:
    kind, path = write(tmp_path)
    source = make(kind, path, "skip")
    assert [list(source.read(shard)) for shard in source.shards()] == [["good", None, "fine"]]


def test_the_line_is_counted_from_the_file_not_from_the_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(json_lines(["text"] * 122) + b"{\n" + json_lines(["text"] * 20))
    monkeypatch.setattr(sources_module, "_PIECE_BYTES", 64)
    with pytest.raises(DataError, match="line 123"):
        texts_of(JsonLines(str(path)))


def test_skipped_records_are_counted_in_the_manifest(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    good = json_lines([f"abc {i}" for i in range(50)])
    path.write_bytes(b"nonsense\n" + good + b'{"text": 3}\n' + good + b'{"text": ""}\n')
    sources: dict[str, Source] = {"mixed": JsonLines(str(path), on_malformed="skip")}
    settings = PrepareSettings(str(byte_tokenizer_dir), sources, sequence_length=16, validation_share=0.0)
    manifest = json.loads((prepare(tmp_path / "rows", settings) / "manifest.json").read_text())
    counted = manifest["counts"]["train"]["sources"]["mixed"]
    assert counted["documents"] == 100
    assert counted["skipped"] == 3


@pytest.mark.parametrize("num_workers", [1, 2])
def test_prepare_names_source_file_and_line_whatever_the_workers(
    num_workers: int, byte_tokenizer_dir: Path, tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.jsonl").write_bytes(json_lines(["abc"] * 30))
    with open(tmp_path / "b.jsonl", "ab") as stream:
        stream.write(b"oops\n")
    sources: dict[str, Source] = {"letters": JsonLines(str(tmp_path / "*.jsonl"))}
    settings = PrepareSettings(str(byte_tokenizer_dir), sources, sequence_length=16, num_workers=num_workers)
    with pytest.raises(DataError) as raised:
        prepare(tmp_path / "rows", settings)
    for part in ("'letters'", str(tmp_path / "b.jsonl"), "line 31"):
        assert part in str(raised.value)
    assert not (tmp_path / "rows").exists()


@pytest.mark.parametrize("on_malformed", ["raise", "skip"])
def test_truncated_gz_is_an_error_that_names_the_file(on_malformed: str, tmp_path: Path) -> None:
    whole = gzip.compress(json_lines([f"{i * 7919 % 10007}" for i in range(5000)]))
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.jsonl\.gz"):
        texts_of(make(JsonLines, path, on_malformed))


def test_bytes_that_are_not_gzip_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "plain.jsonl.gz"
    path.write_bytes(json_lines(TEXTS))
    with pytest.raises(DataError, match=r"plain\.jsonl\.gz"):
        texts_of(JsonLines(str(path)))


def test_gz_with_flipped_bytes_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(json_lines([f"{i * 7919 % 10007}" for i in range(5000)])))
    middle = len(whole) // 2
    whole[middle : middle + 64] = bytes(b ^ 0x5A for b in whole[middle : middle + 64])
    path = tmp_path / "damaged.jsonl.gz"
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"damaged\.jsonl\.gz"):
        texts_of(JsonLines(str(path)))


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_truncated_parquet_is_an_error_that_names_the_file(kept: float, tmp_path: Path) -> None:
    path = tmp_path / "cut.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS * 50}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(DataError, match=r"cut\.parquet"):
        texts_of(Parquet(str(path)))


def test_parquet_with_a_damaged_page_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "damaged.parquet"
    table = pyarrow.table({"text": [f"{i * 7919 % 10007}" for i in range(5000)]})
    pyarrow.parquet.write_table(table, path, compression="gzip", use_dictionary=False)
    whole = bytearray(path.read_bytes())
    whole[200:4000] = bytes(3800)
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"damaged\.parquet"):
        texts_of(Parquet(str(path)))


@pytest.mark.parametrize("kind", [JsonLines, PlainText, Parquet])
def test_a_pattern_that_matches_nothing_is_refused(kind: type[Source], tmp_path: Path) -> None:
    (tmp_path / "there.txt").write_text("x")
    source = kind([str(tmp_path / "there.txt"), str(tmp_path / "absent-*")])  # type: ignore[call-arg]
    for ask in (source.check, source.shards):
        with pytest.raises(ConfigError, match=r"files.*nothing matches.*absent-\*"):
            ask()


def test_missing_columns_are_refused_with_those_there_are(tmp_path: Path) -> None:
    as_parquet(tmp_path)
    with pytest.raises(DataError, match=r"no column 'text'.*'body'"):
        texts_of(Parquet(str(tmp_path / "a.parquet")))
    as_saved_dataset(tmp_path)
    with pytest.raises(ConfigError, match=r"no column 'body'.*'text'"):
        texts_of(HuggingFaceDataset(str(tmp_path / "saved"), field="body"))


def test_a_dataset_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"path: .*absent"):
        texts_of(HuggingFaceDataset(str(tmp_path / "absent")))
    as_saved_dataset_dict(tmp_path)
    with pytest.raises(ConfigError, match=r"split 'dev'"):
        texts_of(HuggingFaceDataset(str(tmp_path / "saved"), split="dev"))


def test_slices_of_a_split(tmp_path: Path) -> None:
    as_directory_of_files(tmp_path)
    assert texts_of(HuggingFaceDataset(str(tmp_path / "hub"), split="train[:2]")) == TEXTS[:2]
    assert texts_of(HuggingFaceDataset(str(tmp_path / "hub"), split="train[2:]")) == TEXTS[2:]


@pytest.mark.parametrize("write", [as_saved_dataset, as_saved_dataset_dict])
def test_the_split_of_a_saved_dataset_is_never_ignored(write: Callable[[Path], Source], tmp_path: Path) -> None:
    write(tmp_path)
    for split in ("train[:2]", "no-such-split"):
        with pytest.raises(ConfigError, match=re.escape(split)):
            texts_of(HuggingFaceDataset(str(tmp_path / "saved"), split=split))


def test_a_dataset_column_that_is_not_text_is_refused(tmp_path: Path) -> None:
    as_saved_dataset(tmp_path)
    with pytest.raises((ConfigError, DataError), match=r"'id'.*int"):
        texts_of(HuggingFaceDataset(str(tmp_path / "saved"), field="id"))


def empty_inputs() -> Iterator[Any]:
    def jsonl(directory: Path) -> Source:
        (directory / "e.jsonl").write_bytes(b"")
        return JsonLines(str(directory / "e.jsonl"))

    def blank_lines(directory: Path) -> Source:
        (directory / "e.jsonl").write_bytes(b"\n \n\n")
        return JsonLines(str(directory / "e.jsonl"))

    def gz(directory: Path) -> Source:
        (directory / "e.jsonl.gz").write_bytes(gzip.compress(b""))
        return JsonLines(str(directory / "e.jsonl.gz"))

    def text(directory: Path) -> Source:
        (directory / "e.txt").write_bytes(b"")
        return PlainText(str(directory / "e.txt"))

    def parquet(directory: Path) -> Source:
        table = pyarrow.table({"text": pyarrow.array([], pyarrow.string())})
        pyarrow.parquet.write_table(table, directory / "e.parquet")
        return Parquet(str(directory / "e.parquet"))

    def empty_strings(directory: Path) -> Source:
        (directory / "e.jsonl").write_bytes(json_lines(["", ""]))
        return JsonLines(str(directory / "e.jsonl"))

    def saved(directory: Path) -> Source:
        empty = datasets.Dataset.from_dict({"text": []}, features=datasets.Features({"text": datasets.Value("string")}))
        empty.save_to_disk(str(directory / "saved"))
        return HuggingFaceDataset(str(directory / "saved"))

    for write in (jsonl, blank_lines, gz, text, parquet, empty_strings, saved):
        yield pytest.param(write, id=write.__name__)


@pytest.mark.parametrize("write", empty_inputs())
def test_a_source_without_text_is_refused_by_name(
    write: Callable[[Path], Source], byte_tokenizer_dir: Path, tmp_path: Path
) -> None:
    settings = PrepareSettings(str(byte_tokenizer_dir), {"void": write(tmp_path)}, sequence_length=16)
    with pytest.raises(DataError, match="'void'"):
        prepare(tmp_path / "rows", settings)
    assert not (tmp_path / "rows").exists()


def test_without_datatrove_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datatrove", None)
    source = DatatroveReader("datatrove.pipeline.readers.JsonlReader", {"data_folder": "."})
    with pytest.raises(ConfigError, match=r"reader: needs datatrove; pip install 'remit_lit\[datatrove\]'"):
        source.check()
