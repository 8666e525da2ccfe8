"""Single commands through a real SLURM."""

import json
import signal
from collections import Counter
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from remit_lit.cli.dispatch import main
from remit_lit.data.columns import column_directory, read_facts
from remit_lit.data.manifest import read_manifest
from tests.data.logged import readings
from tests.slurm.watching import command, wait_until
from tests.warm import ForkedProcess

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("slurm")]
ASKED = ["--launcher=slurm", "--slurm.cpus=1", "--slurm.minutes=10", "--slurm.poll_seconds=0.5"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that commands are given in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def numbers(here: Path) -> list[str]:
    """Of SLURM's jobs that were submitted from there."""
    return sorted(path.name.split("_")[0] for path in here.glob("runs/slurm/*/slurm/*_submission.sh"))


def preparing(tiny_tokenizer_dir: Path, output: str) -> list[str]:
    """The words of a command whose config is in the directory that it is given in."""
    sources = {"web": {"class_path": "LabDocuments", "init_args": {"kind": "web", "documents": 60}}}
    Path("rows.yaml").write_text(yaml.safe_dump({"tokenizer": str(tiny_tokenizer_dir), "sources": sources}))
    return ["prepare", "--config=rows.yaml", f"--output={output}", "--sequence_length=32"]


def test_rows_are_those_of_this_machine(
    here: Path, tiny_tokenizer_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(preparing(tiny_tokenizer_dir, "local"))
    main([*preparing(tiny_tokenizer_dir, "sent"), *ASKED])
    assert len(numbers(here)) == 1
    assert read_manifest(here / "sent").fingerprints == read_manifest(here / "local").fingerprints
    assert capsys.readouterr().out.rstrip().endswith("\nrows: sent")


def test_several_processes_tokenize_together(
    here: Path, byte_tokenizer_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = {"class_path": "tests.data.logged.Logged", "init_args": {"directory": str(here), "shards": 6}}
    words = [*preparing(byte_tokenizer_dir, "local"), f"--sources={json.dumps({'web': source})}"]
    main(words)
    (here / "readings").unlink()
    main([*words, "--output=sent", *ASKED, "--slurm.verbs={prepare: {tasks: 2}}"])
    assert len(numbers(here)) == 1
    assert read_manifest(here / "sent").fingerprints == read_manifest(here / "local").fingerprints
    assert Counter(shard for shard, _ in readings(here)) == {str(shard): 1 for shard in range(6)}
    assert capsys.readouterr().out.rstrip().endswith("\nrows: sent")


def test_what_the_command_refuses_is_said(
    here: Path, tiny_tokenizer_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = preparing(tiny_tokenizer_dir, "rows")
    main(words)
    with pytest.raises(SystemExit, match="1"):
        main([*words, *ASKED])
    assert "error: output: rows exists" in capsys.readouterr().out
    main([*words, "--overwrite=true", *ASKED])


def test_a_launcher_may_stand_in_a_config(here: Path, tiny_tokenizer_dir: Path) -> None:
    slurm = {"cpus": 1, "minutes": 10, "poll_seconds": 0.5, "verbs": {"fit": {"gpus": 8}}}
    (here / "cluster.yaml").write_text(yaml.safe_dump({"launcher": "slurm", "slurm": slurm}))
    main([*preparing(tiny_tokenizer_dir, "rows"), "--config=cluster.yaml"])
    assert len(numbers(here)) == 1 and read_manifest(here / "rows").counts["train"]["rows"] > 0


@pytest.mark.fault("kill -9 of a `score` that waits for SLURM", "the same command finds it in the queue")
def test_a_killed_command_is_found_in_the_queue(here: Path, rows: Path, tiny_reference_dir: Path) -> None:
    words = ["score", f"--rows={rows}", f"--model.path={tiny_reference_dir}", "--column=nll", *ASKED]
    words.append('--slurm.options={"begin": "now+1hour"}')
    process = ForkedProcess(main, [words], here / "printed.txt")
    wait_until(lambda: numbers(here) and numbers(here)[0] in command("squeue", "--noheader", "--format=%A"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    command("scontrol", "update", f"jobid={numbers(here)[0]}", "starttime=now")
    main(words)
    assert len(numbers(here)) == 1
    assert read_facts(column_directory(rows, "train", "nll")).num_rows == read_manifest(rows).counts["train"]["rows"]
