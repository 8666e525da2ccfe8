"""What a preparation will take, against what it took."""

import re
from pathlib import Path

import pytest

from remit_lit.cli.dispatch import main
from remit_lit.data.forecast import forecast
from remit_lit.data.prepare import prepare
from tests.data.texts import Texts, corpus, settings_for, split_rows

TEXTS = {"web": corpus("web", 100), "math": corpus("math", 100)}
MIX = {"web": 0.5, "math": 0.5}


def test_tokens_rows_and_disk_are_those_that_come_of_it(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    settings = settings_for(byte_tokenizer_dir, TEXTS, draw="shards", mix=MIX, num_tokens=3200)
    tokens, disk, time = forecast(settings)
    assert tokens == "tokens: 3,200 to train on, in 100 rows of 32"
    assert disk == "disk: 0.01 GB of rows, at most 0.01 GB while they are written"
    assert re.fullmatch(r"time: about 0\.0 hours .* in 1 processes.*web [\d,]+, math [\d,]+\)", time)
    assert list(tmp_path.iterdir()) == []
    assert 100 <= len(split_rows(prepare(tmp_path / "rows", settings))) <= 104


def test_what_cannot_be_known_is_said(byte_tokenizer_dir: Path) -> None:
    (line,) = forecast(settings_for(byte_tokenizer_dir, TEXTS))
    assert line.startswith("tokens, disk, time: not known before all sources are read")
    assert "draw: shards reads what it needs" in forecast(settings_for(byte_tokenizer_dir, TEXTS, num_tokens=3200))[-1]


def test_no_more_than_the_beginning_is_read(byte_tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ends(Texts):
        def read(self, shard: str) -> object:  # type: ignore[override]
            yield from ["x" * 1000] * 600
            raise AssertionError("read on")

    settings = settings_for(byte_tokenizer_dir, {}, draw="shards", num_tokens=10**6)
    settings.sources = {"web": Ends(["x"])}
    assert "time: about" in forecast(settings)[-1]


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = '{"web": {"class_path": "LabDocuments", "init_args": {"kind": "web", "documents": 50}}}'
    arguments = ["--tokenizer=lab/base", f"--sources={source}", "--sequence_length=33", "--num_tokens=990"]
    main(["prepare", f"--output={tmp_path / 'rows'}", *arguments, "--draw=shards", "--dry_run=true"])
    assert "tokens: 990 to train on, in 30 rows of 33" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
