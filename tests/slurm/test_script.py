"""`experiments/scale/slurm.sh`: two ranks that SLURM warns before their time is up."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ROOT, Run, short_run
from tests.slurm.watching import command, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("slurm")]


def config(rows: Path, policy: Path, seconds: float) -> dict[str, Any]:
    pace = {"class_path": "tests.faults.pace.Pace", "init_args": {"seconds": seconds}}
    run = short_run(rows, policy, 10, [pace])
    return {**run, "trainer": {**run["trainer"], "strategy": "ddp", "log_every_n_steps": 1}}


def submit(run: Run, monkeypatch: pytest.MonkeyPatch) -> str:
    """The number of SLURM's job."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    asked = ("--nodes=1", "--ntasks-per-node=2", "--gpus-per-node=0", "--cpus-per-task=1", "--time=10")
    script = str(ROOT / "experiments" / "scale" / "slurm.sh")
    said = command("sbatch", *asked, f"--output={run.printed}", script, f"--config={run.config}")
    return said.split()[-1]


def state(number: str) -> str:
    return command("squeue", f"--jobs={number}", "--noheader", "--states=all", "--format=%T").strip()


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two ranks need two cores")
def test_a_run_that_was_warned_is_queued_again_and_goes_on_bit_for_bit(
    tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = Run(tmp_path / "undisturbed", config(tiny_rows, tiny_policy_dir, 0.0))
    disturbed = Run(tmp_path / "disturbed", config(tiny_rows, tiny_policy_dir, 0.5))
    numbers = [submit(run, monkeypatch) for run in (undisturbed, disturbed)]
    wait_until(lambda: state(numbers[0]) == "COMPLETED")
    wait_until(lambda: (disturbed.folder / "metrics.csv").exists())
    command("scancel", "--signal=USR1", numbers[1])  # as SLURM does it at the time limit: to the ranks, not the script
    wait_until(lambda: state(numbers[1]) == "PENDING")
    wait_until(lambda: state(numbers[1]) == "COMPLETED")
    assert "received SIGUSR1" in disturbed.output and "Restoring states" in disturbed.output
    assert disturbed.losses == undisturbed.losses
    assert all((disturbed.weights[name] == value).all() for name, value in undisturbed.weights.items())
