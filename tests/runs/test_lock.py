"""One command at a time writes a folder."""

import json
import multiprocessing
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from remit_lit.cli.dispatch import main
from remit_lit.runs.lock import held
from tests.processes import ROOT, short_run

HOLD = "import sys; from remit_lit.runs.lock import held\nwith held('x', sys.argv[1]): print(1, flush=True); input()"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the folder ``out``."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "out")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"1\n"
        yield process
        process.kill()


@pytest.mark.fault("two commands on one folder", "the second is refused and the holder named; a dead one holds nothing")
def test_a_folder_is_written_by_one_command_at_a_time(
    holder: subprocess.Popen[bytes],
    tiny_rows: Path,
    tiny_policy_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, fit, rows = tmp_path / "out", tmp_path / "fit.yaml", tmp_path / "rows.yaml"
    fit.write_text(yaml.safe_dump({**short_run(tiny_rows, tiny_policy_dir, 1), "checkpoint": {"at_end": False}}))
    source = {"class_path": "LabDocuments", "init_args": {"kind": "web", "documents": 9}}
    rows.write_text(
        yaml.safe_dump({"tokenizer": str(tiny_policy_dir), "sources": {"web": source}, "sequence_length": 8})
    )
    commands = {
        "run_dir": ["fit", f"--config={fit}", f"--run_dir={out}", "--ckpt_path=last"],
        "output": ["prepare", f"--config={rows}", f"--output={out}"],
    }
    for field, command in commands.items():
        capsys.readouterr()
        with pytest.raises(SystemExit) as raised:
            main(command)
        message = capsys.readouterr().err
        assert raised.value.code == 2
        assert (
            f"error: {field}: {out} is being written by process {holder.pid} on " in message and " since 20" in message
        )
        assert not out.exists()
    holder.kill()
    holder.wait()
    main(commands["run_dir"])
    assert (out / "model").is_dir()
    assert not list(tmp_path.glob(".out.lock"))


@pytest.mark.fault("a folder that cannot be written", "refused by name, before anything is loaded")
def test_a_folder_that_cannot_be_written_is_refused(
    tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fit.yaml"
    path.write_text(yaml.safe_dump(short_run(tiny_rows, tiny_policy_dir, 1)))
    with pytest.raises(SystemExit) as raised:
        main(["fit", f"--config={path}", "--run_dir=/proc/here/run"])
    assert raised.value.code == 2
    assert "error: run_dir: /proc/here/run cannot be written (" in capsys.readouterr().err


def test_the_lock_ends_with_the_context(tmp_path: Path) -> None:
    for _ in range(2):
        with held("run_dir", tmp_path / "new" / "run"):
            assert [path.name for path in (tmp_path / "new").iterdir()] == [".run.lock"]
        assert not list((tmp_path / "new").iterdir())


def test_where_only_the_folder_can_be_written_the_lock_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with held("run_dir", run):
        assert [path.name for path in run.iterdir()] == [".run.lock"]
    assert not list(run.iterdir())


@pytest.mark.fault("two commands on one subset", "the second is refused and the holder named")
def test_a_subset_is_written_by_one_command_at_a_time(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subset = rows / "subsets" / "train" / "best"
    with _held_elsewhere(subset), pytest.raises(SystemExit) as raised:
        main(["select", f"--rows={rows}", "--base=a", "--reference=b", "--name=best"])
    assert raised.value.code == 2
    assert f"error: name: {subset} is being written by process " in capsys.readouterr().err


@pytest.mark.fault("`convert` on a run in training", "refused and the holder named")
def test_a_checkpoint_is_converted_while_nobody_writes_its_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000001"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.bin").write_bytes(b"weights")
    facts = {"bytes": 7, "crc32": zlib.crc32(b"weights")}
    (checkpoint / "manifest.json").write_text(json.dumps({"engine": "zero2", "files": {"model.bin": facts}}))
    with _held_elsewhere(tmp_path / "run"), pytest.raises(SystemExit) as raised:
        main(["convert", f"--checkpoint={checkpoint}"])
    assert raised.value.code == 2
    assert f"error: checkpoint: {tmp_path / 'run'} is being written by process " in capsys.readouterr().err


@contextmanager
def _held_elsewhere(folder: Path) -> Iterator[None]:
    """Within, a forked process holds the folder."""
    context = multiprocessing.get_context("fork")
    ready, end = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(folder, ready, end), daemon=True)
    process.start()
    assert ready.wait(60)
    try:
        yield
    finally:
        end.set()
        process.join()


def _hold(folder: Path, ready: Event, end: Event) -> None:
    with held("x", folder):
        ready.set()
        end.wait(60)
