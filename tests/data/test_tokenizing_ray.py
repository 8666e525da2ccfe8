"""Tasks of a Ray cluster make the rows that one process makes."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from remit_lit.cli.dispatch import main
from remit_lit.data.manifest import read_manifest
from tests.data.logged import readings
from tests.processes import ROOT

pytest.importorskip("ray")
RAY = [sys.executable, "-m", "ray.scripts.scripts"]


def words(directory: Path, tokenizer: Path, output: str) -> list[str]:
    source = {"class_path": "tests.data.logged.Logged", "init_args": {"directory": str(directory), "shards": 6}}
    (directory / "rows.yaml").write_text(yaml.safe_dump({"tokenizer": str(tokenizer), "sources": {"web": source}}))
    return ["prepare", f"--config={directory / 'rows.yaml'}", f"--output={directory / output}", "--sequence_length=32"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray of this machine, whose address the environment names."""
    address = "127.0.0.1:26379"
    quiet = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    start = [
        *RAY,
        "start",
        "--head",
        "--port=26379",
        "--num-cpus=2",
        "--include-dashboard=false",
        "--node-ip-address=127.0.0.1",
    ]
    subprocess.run(start, env=quiet, check=True, capture_output=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", address)
        yield
    subprocess.run([*RAY, "stop", "--force"], check=True, capture_output=True)


@pytest.fixture
def launched(cluster: None) -> list[str]:
    return ["--launcher=ray", "--num_workers=2"]


def prepared(arguments: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "remit_lit", *arguments]
    found = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, cwd=directory, env=found, check=False)


# Before the others, which have one.
def test_without_a_cluster_the_command_says_how_to_start_one(
    byte_tokenizer_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(SystemExit, match="2"):
        main([*words(tmp_path, byte_tokenizer_dir, "sent"), "--launcher=ray"])
    assert "launcher: no Ray cluster answers at auto" in capsys.readouterr().err


@pytest.mark.slow
def test_tasks_make_the_rows_of_one_process(byte_tokenizer_dir: Path, tmp_path: Path, launched: list[str]) -> None:
    main(words(tmp_path, byte_tokenizer_dir, "alone"))
    (tmp_path / "readings").unlink()
    sent = prepared([*words(tmp_path, byte_tokenizer_dir, "sent"), *launched], tmp_path)
    assert sent.returncode == 0, sent.stderr
    assert read_manifest(tmp_path / "sent").fingerprints == read_manifest(tmp_path / "alone").fingerprints
    assert Counter(shard for shard, _ in readings(tmp_path)) == {str(shard): 1 for shard in range(6)}
    assert not list(tmp_path.glob(".sent*"))


@pytest.mark.slow
def test_what_a_task_finds_wrong_is_the_error_of_the_command(
    byte_tokenizer_dir: Path, tmp_path: Path, launched: list[str]
) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": "abc"}\n{"text": 1}\n')
    bad = {"bad": {"class_path": "JsonLines", "init_args": {"files": "bad.jsonl"}}}
    arguments = [*words(tmp_path, byte_tokenizer_dir, "sent"), f"--sources={json.dumps(bad)}", *launched]
    sent = prepared(arguments, tmp_path)
    assert sent.returncode == 2
    assert "bad.jsonl, line 2" in sent.stderr and "Traceback" not in sent.stderr
    assert not list(tmp_path.glob(".sent*"))
