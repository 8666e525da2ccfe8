"""A real process that trains, killed at a checkpoint and started again."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from remit_lit.posttraining.examples import LabProblems
from remit_lit.posttraining.run_folder import newest_checkpoint
from tests.posttraining.conftest import training
from tests.posttraining.test_posttrain import weights
from tests.processes import ROOT, SECONDS, furthest, kill


@pytest.mark.fault("kill -9 of `posttrain`", "resumed, it ends with the same weights")
@pytest.mark.slow
def test_sft_killed_and_resumed_ends_with_the_same_weights(run: Callable[..., Path], tmp_path: Path) -> None:
    settings = {"data": LabProblems(160), "training": training(steps=None, save_steps=5, batch_size=4)}
    whole = run(**settings, run_dir=str(tmp_path / "whole"))
    folder = tmp_path / "killed"
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with open(tmp_path / "printed.txt", "wb") as printed:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "remit_lit",
                "posttrain",
                f"--config={whole / 'config.yaml'}",
                f"--run_dir={folder}",
            ],
            env={**os.environ, **environment},
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + SECONDS
        while newest_checkpoint(folder / "checkpoints") is None:
            assert process.poll() is None and time.monotonic() < end, (tmp_path / "printed.txt").read_text()
            time.sleep(0.001)
    finally:
        kill(process)
    assert not (folder / "model").exists()
    run(**settings, run_dir=str(folder), resume=True)
    assert furthest(weights(whole), weights(folder)) == 0
    assert (folder / "metrics.csv").read_text().count("\n") == (whole / "metrics.csv").read_text().count("\n")
