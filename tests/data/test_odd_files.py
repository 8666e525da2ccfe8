"""Records and files that no reader expects: each is named, or skipped and counted where that is asked."""

import json
import os
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from remit_lit.data.manifest import read_manifest
from remit_lit.data.prepare import prepare
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.sources import JsonLines, Parquet, PlainText, Source
from remit_lit.errors import ConfigError, DataError

GOOD, FINE = b'{"text": "good"}', b'{"text": "fine"}'
ODD_RECORDS = {
    "nested": b'{"text": "x", "meta": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "long integer": b'{"text": "x", "id": ' + b"9" * 10_000 + b"}",
}


def texts_of(source: Source) -> list[str | None]:
    return [text for shard in source.shards() for text in source.read(shard)]


def bad_parquet(path: Path) -> Path:
    """Three texts, the second of which is not UTF-8."""
    values = pyarrow.array([b"good", b"\xff\xfe", b"fine"], pyarrow.binary()).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": values}), path)
    return path


@pytest.mark.fault("a JSON record that no parser takes", "named by file and line, or skipped where asked")
@pytest.mark.parametrize("odd", ODD_RECORDS.values(), ids=ODD_RECORDS.keys())
def test_odd_json_is_named_or_skipped(odd: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([GOOD, odd, FINE]))
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: "):
        texts_of(JsonLines(str(path)))
    assert texts_of(JsonLines(str(path), on_malformed="skip")) == ["good", None, "fine"]


@pytest.mark.fault("Parquet text that is not UTF-8", "named by file and record, or skipped where asked")
def test_parquet_that_is_not_utf8_is_named_or_skipped(tmp_path: Path) -> None:
    path = bad_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet, row 2: .*UTF-8"):
        texts_of(Parquet(str(path)))
    assert texts_of(Parquet(str(path), on_malformed="skip")) == ["good", None, "fine"]


@pytest.mark.fault("odd records under `on_malformed: skip`, by workers", "`prepare` goes on and counts them")
@pytest.mark.parametrize("workers", [1, 2])
def test_prepare_goes_on_past_odd_records(workers: int, byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([GOOD, *ODD_RECORDS.values(), FINE] * 10))
    bad_parquet(tmp_path / "a.parquet")
    sources: dict[str, Source] = {
        "lines": JsonLines(str(tmp_path / "a.jsonl"), on_malformed="skip"),
        "table": Parquet(str(tmp_path / "a.parquet"), on_malformed="skip"),
    }
    settings = PrepareSettings(str(byte_tokenizer_dir), sources, 16, validation_share=0.0, num_workers=workers)
    counts = read_manifest(prepare(tmp_path / "rows", settings)).counts["train"]["sources"]
    assert {name: (facts["documents"], facts["skipped"]) for name, facts in counts.items()} == {
        "lines": (20, 20),
        "table": (2, 1),
    }


@pytest.mark.fault("a source that is a dangling link", "refused by name")
def test_a_dangling_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "nowhere.jsonl")
    with pytest.raises(ConfigError, match=r"files: .*a\.jsonl is a link to .*nowhere\.jsonl, which is not there"):
        JsonLines(str(tmp_path / "*.jsonl")).check()


@pytest.mark.fault("a source that is a FIFO", "refused by name")
def test_a_fifo_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    for pattern in ("*.jsonl", "a.jsonl"):
        with pytest.raises(ConfigError, match=r"files: .*a\.jsonl is not a regular file"):
            JsonLines(str(tmp_path / pattern)).check()


def test_a_directory_is_passed_over_by_a_pattern_and_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jsonl").write_bytes(GOOD)
    assert texts_of(JsonLines(str(tmp_path / "**"))) == ["good"]
    with pytest.raises(ConfigError, match=r"files: .*sub is a directory; give .*sub/\*"):
        JsonLines(str(tmp_path / "sub")).check()


@pytest.mark.fault("a source that is a loop of directories", "each file once")
def test_a_loop_of_directories_gives_each_file_once(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jsonl").write_bytes(GOOD)
    (tmp_path / "sub" / "loop").symlink_to(tmp_path / "sub", target_is_directory=True)
    source = JsonLines(str(tmp_path / "**" / "*.jsonl"))
    assert texts_of(source) == ["good"]
    assert source.shards() == [f"0:{tmp_path / 'sub' / 'a.jsonl'}"]


@pytest.mark.fault("a source that names a file twice", "refused by name")
@pytest.mark.parametrize("second", ["a.jsonl", "./a.jsonl", "link.jsonl", "*.jsonl"])
def test_a_file_named_twice_is_refused(second: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "a.jsonl")
    with pytest.raises(ConfigError, match=r"files: .*a\.jsonl.* named twice"):
        JsonLines([str(tmp_path / "a.jsonl"), f"{tmp_path}/{second}"]).check()


@pytest.mark.parametrize("end", [b"\r", b"\r\n", b"\n"])
def test_lines_end_as_they_do_on_any_system(end: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(end.join([GOOD, FINE, b""]))
    assert [text for text in texts_of(JsonLines(str(tmp_path / "a.jsonl"))) if text] == ["good", "fine"]
    (tmp_path / "a.txt").write_bytes(end.join([b"good", b"fine"]))
    assert texts_of(PlainText(str(tmp_path / "a.txt"), document="line")) == ["good", "fine"]
    (tmp_path / "bad.jsonl").write_bytes(end.join([GOOD, FINE, b"oops", FINE]))
    with pytest.raises(DataError, match=r"bad\.jsonl, line 3: not JSON"):
        texts_of(JsonLines(str(tmp_path / "bad.jsonl")))
    (tmp_path / "bad.txt").write_bytes(end.join([b"good", b"\xff"]))
    with pytest.raises(DataError, match=r"bad\.txt, line 2: "):
        texts_of(PlainText(str(tmp_path / "bad.txt"), document="line"))


def test_line_ends_within_a_text_stay(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "one\rtwo\r\nthree"}) + "\n")
    assert texts_of(JsonLines(str(tmp_path / "a.jsonl"))) == ["one\rtwo\r\nthree"]
