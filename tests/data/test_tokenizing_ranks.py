"""Processes that srun starts on several nodes, here on one, make the rows that one process makes."""

import json
import os
import signal
import stat
import time
from collections import Counter
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from remit_lit.cli.dispatch import main
from remit_lit.data.manifest import read_manifest
from tests.data.logged import readings
from tests.warm import WarmProcess

RANKS = 3


def words(directory: Path, tokenizer: Path, output: str) -> list[str]:
    """Of a ``prepare`` with sources to train on and for validation."""
    sources = {
        name: {"class_path": "tests.data.logged.Logged", "init_args": {"directory": str(directory), "shards": 12}}
        for name in ("web", "math")
    }
    config = {"tokenizer": str(tokenizer), "sources": sources, "validation": {"held_out": sources["web"]}}
    (directory / "rows.yaml").write_text(yaml.safe_dump({**config, "sequence_length": 32}))
    return ["prepare", f"--config={directory / 'rows.yaml'}", f"--output={directory / output}"]


def started(directory: Path, arguments: list[str], ranks: int = RANKS) -> list[WarmProcess]:
    """As srun starts them."""
    step = {"SLURM_STEP_NUM_TASKS": str(ranks), "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}
    return [
        WarmProcess(arguments, directory / f"printed-{rank}.txt", {**step, "SLURM_PROCID": str(rank)})
        for rank in range(ranks)
    ]


def address_of(directory: Path) -> Path:
    """The file that says where the first process is, once it does."""
    end = time.monotonic() + 60
    while not (path := directory / ".sent.address.7.0.0").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    return path


def test_ranks_make_the_rows_of_one_process(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    main(words(tmp_path, byte_tokenizer_dir, "alone"))
    (tmp_path / "readings").unlink()
    processes = started(tmp_path, [*words(tmp_path, byte_tokenizer_dir, "sent"), "--num_workers=2"])
    assert [process.wait(120) for process in processes] == [0] * RANKS
    alone, sent = read_manifest(tmp_path / "alone"), read_manifest(tmp_path / "sent")
    assert sent.fingerprints == alone.fingerprints and sent.counts == alone.counts
    read = readings(tmp_path)
    assert Counter(shard for shard, _ in read) == {str(shard): 3 for shard in range(12)}
    assert not {process for _, process in read} & {str(process.pid) for process in processes}
    assert "rows: " in (tmp_path / "printed-0.txt").read_text() and not (tmp_path / "printed-1.txt").read_text()
    assert not list(tmp_path.glob(".sent*"))


def test_a_rank_that_comes_late_finds_the_work_done(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    first, second = started(tmp_path, words(tmp_path, byte_tokenizer_dir, "sent"), 2)
    second.send_signal(signal.SIGSTOP)
    while not (tmp_path / "sent").exists():
        assert first.poll() is None
        time.sleep(0.05)
    second.send_signal(signal.SIGCONT)
    assert [first.wait(120), second.wait(120)] == [0, 0]


def test_what_a_rank_finds_wrong_is_the_error_of_the_command(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": "abc"}\n{"text": 1}\n')
    arguments = words(tmp_path, byte_tokenizer_dir, "sent")
    bad = {"class_path": "JsonLines", "init_args": {"files": str(tmp_path / "bad.jsonl")}}
    processes = started(tmp_path, [*arguments, f"--sources={json.dumps({'bad': bad})}", "--validation=null"])
    assert [process.wait(120) for process in processes] == [2, 0, 0]
    assert f"{tmp_path / 'bad.jsonl'}, line 2" in (tmp_path / "printed-0.txt").read_text()
    assert not (tmp_path / "sent").exists() and not list(tmp_path.glob(".sent*"))


def test_a_source_that_cannot_be_sent_is_named(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    source = {"class_path": "tests.data.logged.Unsendable", "init_args": {"directory": str(tmp_path)}}
    arguments = [*words(tmp_path, byte_tokenizer_dir, "sent"), f"--sources={json.dumps({'web': source})}"]
    processes = started(tmp_path, [*arguments, "--validation=null"])
    assert [process.wait(120) for process in processes] == [2, 0, 0]
    assert "error: sources: a source cannot be sent to other processes" in (tmp_path / "printed-0.txt").read_text()


@pytest.mark.fault("kill -9 of a process that tokenizes on another node", "the command says so and ends")
def test_a_killed_rank_ends_the_command(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    for shard in range(12):
        (tmp_path / f"hold-{shard}").touch()
    processes = started(tmp_path, words(tmp_path, byte_tokenizer_dir, "sent"))
    end = time.monotonic() + 60
    while len(readings(tmp_path)) < RANKS:
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(int(readings(tmp_path)[0][1]), signal.SIGKILL)
    for shard in range(12):
        (tmp_path / f"hold-{shard}").unlink()
    assert processes[0].wait(120) == 2
    assert "was killed while it tokenized" in (tmp_path / "printed-0.txt").read_text()
    assert [process.wait(120) for process in processes[1:]] == [0, 0]
    assert not (tmp_path / "sent").exists()


def test_only_who_knows_the_secret_is_let_in(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "hold-3").touch()
    processes = started(tmp_path, words(tmp_path, byte_tokenizer_dir, "sent"))
    path = address_of(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    told = json.loads(path.read_text())
    with pytest.raises(AuthenticationError):
        Client((told["host"], told["port"]), authkey=b"a guess")
    (tmp_path / "hold-3").unlink()
    assert [process.wait(120) for process in processes] == [0] * RANKS
