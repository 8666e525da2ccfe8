"""Signals outside the training loop: nothing is taken for a success, and no process is left behind."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml  # type: ignore[import-untyped]

from remit_lit.runs.checkpoint import all_checkpoints
from tests.faults.test_killed_fit import config
from tests.processes import Run, kill

SECONDS = 60


def slow_before_training(rows: Path, policy: Path, reference: Path, asked: Path, **trainer: Any) -> dict[str, Any]:
    """A run whose validation before training takes minutes, with workers that load its batches."""
    settings = config(rows, policy, reference, **trainer)
    slow = {"class_path": "tests.faults.pace.SlowValidation", "init_args": {"seconds": 1.0, "record": str(asked)}}
    settings["trainer"]["callbacks"] = [slow]
    settings["data"]["validation_batch_size"] = 1
    result: dict[str, Any] = yaml.safe_load(yaml.safe_dump(settings))
    return result


def assert_preempted(run: Run, asked: Path, **variables: str) -> None:
    """The whole group is signalled during the validation before training; all of it ends, and says so."""
    process = run.start(**variables)
    try:
        run.wait(process, asked.exists)
        everyone = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(SECONDS) == 75, run.output
        end = time.monotonic() + SECONDS
        while any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in everyone):
            assert time.monotonic() < end, [each for each in everyone if each.is_running()]
            time.sleep(0.1)
    finally:
        kill(process)
    assert "preempted: SIGTERM received outside training" in run.output and "Traceback" not in run.output
    assert not all_checkpoints(run.checkpoints) and not (run.folder / "model").exists()
    assert not list(run.folder.rglob("hpc_ckpt*"))


@pytest.mark.fault("SIGTERM before the first step", "exit code 75, and the same command trains to the end")
def test_a_signal_before_the_first_step_is_no_success(
    tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    run = Run(tmp_path, slow_before_training(tiny_rows_split, tiny_policy_dir, tiny_reference_dir, asked))
    assert_preempted(run, asked)
    run.rewrite(config(tiny_rows_split, tiny_policy_dir, tiny_reference_dir))
    run.finish("--ckpt_path=last")
    assert (run.folder / "model").is_dir()


@pytest.mark.slow
@pytest.mark.fault("SIGTERM to all ranks before the first step", "exit code 75, and no process is left")
@pytest.mark.parametrize("engine_name", ["ddp"])
def test_a_group_that_is_signalled_before_training_leaves_nobody(
    engine_name: str, tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    settings = slow_before_training(
        tiny_rows_split, tiny_policy_dir, tiny_reference_dir, asked, devices=2, strategy=engine_name
    )
    assert_preempted(Run(tmp_path, settings), asked)


@pytest.mark.slow
@pytest.mark.fault("SIGUSR1 under SLURM", "a checkpoint and exit code 75, no requeue and no checkpoint of Lightning's")
def test_a_task_of_slurm_leaves_the_requeue_to_the_job(
    tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path, config(tiny_rows_split, tiny_policy_dir, tiny_reference_dir))
    called = tmp_path / "called"
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f"#!/bin/sh\necho $@ >> {called}\n")
    scontrol.chmod(0o755)
    variables = {
        "PATH": f"{scontrol.parent}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NAME": "remit_lit",
        "SLURM_NTASKS": "1",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODELIST": "127.0.0.1",
    }
    process = run.start(**variables)
    try:
        run.wait(process, lambda: bool(all_checkpoints(run.checkpoints)))
        process.send_signal(signal.SIGUSR1)
        assert process.wait(SECONDS) == 75, run.output
    finally:
        kill(process)
    assert not called.exists() and not list(run.folder.rglob("hpc_ckpt*"))
    assert "preempted: step " in run.output
