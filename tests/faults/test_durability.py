"""What a verb leaves is on the disk, not only in the kernel's memory, once it says that it is there."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]
from transformers import TrainerControl, TrainerState, TrainingArguments

from remit_lit.cli.dispatch import main
from remit_lit.files import make_directory
from remit_lit.posttraining.run_folder import RunFolder, RunLog, newest_checkpoint
from remit_lit.runs.checkpoint import all_checkpoints
from remit_lit.tables.summary import summarize
from remit_lit.tables.table import write_table
from tests.helpers import TIME
from tests.processes import short_run
from tests.tables.made import contents

Lost = Callable[[Path, Path], list[str]]


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> Lost:
    """What a power cut may take of a path: all below it, and the directories above it up to another one, that changed
    since they were last synced."""
    synced: dict[int, int] = {}
    fsync = os.fsync

    def noted(handle: int) -> None:
        fsync(handle)
        synced[os.fstat(handle).st_ino] = os.fstat(handle).st_mtime_ns

    def found(path: Path, top: Path) -> list[str]:
        above = [directory for directory in path.parents if directory.is_relative_to(top)]
        paths = [path, *path.rglob("*"), *above]
        return sorted(str(p.relative_to(top)) for p in paths if synced.get(p.stat().st_ino) != p.stat().st_mtime_ns)

    monkeypatch.setattr(os, "fsync", noted)
    return found


def test_directories_that_were_made_outlast_a_power_cut(lost: Lost, tmp_path: Path) -> None:
    made = tmp_path / "a" / "b" / "c"
    make_directory(made)
    assert lost(made, tmp_path) == ["a/b/c"]  # it holds nothing yet
    make_directory(made)


@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "in the place of others"])
def test_prepared_rows(overwrite: bool, lost: Lost, tiny_tokenizer_dir: Path, tmp_path: Path) -> None:
    source = {"class_path": "LabDocuments", "init_args": {"kind": "web", "documents": 40}}
    settings = {"tokenizer": str(tiny_tokenizer_dir), "sequence_length": TIME, "sources": {"web": source}}
    (tmp_path / "rows.yaml").write_text(yaml.safe_dump({**settings, "validation_share": 0.2}))
    rows = tmp_path / "out" / "rows"
    if overwrite:
        rows.mkdir(parents=True)
    arguments = [f"--config={tmp_path / 'rows.yaml'}", f"--output={rows}", f"--overwrite={str(overwrite).lower()}"]
    main(["prepare", *arguments])
    # The lock beside the rows goes last; that it might be back is harmless.
    assert [name for name in lost(rows, tmp_path) if name not in (".", "out")] == []


def test_a_column(lost: Lost, rows: Path, tiny_reference_dir: Path) -> None:
    main(["score", f"--rows={rows}", f"--model.path={tiny_reference_dir}", "--column=nll", "--accelerator=cpu"])
    column = rows / "columns" / "train" / "nll"
    assert [name for name in lost(column, rows) if name != "columns/train"] == []


def test_a_run(lost: Lost, tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path) -> None:
    settings = {**short_run(tiny_rows, tiny_policy_dir, 2), "checkpoint": {"every_n_train_steps": 1, "keep_last": None}}
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(settings))
    run = tmp_path / "runs" / "run"
    main(["fit", f"--config={tmp_path / 'fit.yaml'}", f"--run_dir={run}"])
    kept = ("checkpoints", "config.yaml", "metrics.csv", "model", "policy", "run.json")
    assert len(all_checkpoints(run / "checkpoints")) == 2
    assert [name for name in lost(run, run) if name.split("/")[0] in kept] == []


def test_a_run_of_posttraining_and_its_checkpoint(lost: Lost, tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path / "runs" / "run"), overwrite=False, resume=False)
    folder.begin({"seed": 0}, {})
    checkpoint = folder.checkpoints / "checkpoint-2"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    (checkpoint / "trainer_state.json").write_text("{}")
    assert newest_checkpoint(folder.checkpoints) is None  # all is written, and nothing need be on the disk
    state = TrainerState(global_step=2, log_history=[{"step": 2, "loss": 1.0}])
    RunLog(folder).on_save(TrainingArguments(str(folder.checkpoints)), state, TrainerControl())
    assert newest_checkpoint(folder.checkpoints) == checkpoint
    assert lost(tmp_path / "runs", tmp_path) == []


def test_a_table(lost: Lost, tmp_path: Path) -> None:
    write_table(summarize(contents()), tmp_path / "tables" / "table")
    assert lost(tmp_path / "tables", tmp_path) == []
