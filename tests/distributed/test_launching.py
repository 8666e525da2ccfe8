"""Ranks started by others than Lightning: torchrun, DeepSpeed's launcher, and SLURM by the variables that it sets."""

import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.test_engines import OPTIMIZERS, engine
from tests.processes import SECONDS, Run, furthest, kill

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def config(rows: Path, policy: Path, devices: int, strategy: Any) -> dict[str, Any]:
    return {
        "model": {"policy": {"path": str(policy)}, "optimizer": OPTIMIZERS["sgd"], "horizon": {"steps": 4}},
        "data": {"rows": str(rows), "batch_size": 4 // devices, "num_workers": 0},
        "trainer": {"accelerator": "cpu", "devices": devices, "strategy": strategy, "log_every_n_steps": 1},
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, tiny_rows_split: Path, tiny_policy_dir: Path) -> Run:
    """The run of one process."""
    return Run(tmp_path_factory.mktemp("alone"), config(tiny_rows_split, tiny_policy_dir, 1, "auto")).finish()


def assert_as_alone(run: Run, alone: Run) -> None:
    assert run.losses == pytest.approx(alone.losses, abs=1e-5), run.output
    assert furthest(run.weights, alone.weights) < 1e-5


@pytest.mark.parametrize("strategy", ["ddp", "zero2"])
@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed"])
def test_ranks_that_a_launcher_starts_train_as_one_process(
    launcher: str, strategy: str, alone: Run, tiny_rows_split: Path, tiny_policy_dir: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path, config(tiny_rows_split, tiny_policy_dir, 2, engine(strategy)))
    command = {
        "torchrun": [str(BIN / "torchrun"), "--nproc-per-node=2", f"--master-port={free_port()}", "-m"],
        "deepspeed": [
            str(BIN / "deepspeed"),
            "--num_gpus=2",
            f"--master_port={free_port()}",
            "--no_local_rank",
            "--module",
        ],
    }[launcher]
    process = run.launch(*command, PATH=f"{BIN}:/usr/bin:/bin", DS_ACCELERATOR="cpu")
    try:
        assert process.wait(SECONDS) == 0, run.output
    finally:
        kill(process)
    assert_as_alone(run, alone)


def test_tasks_of_slurm_train_as_one_process(
    alone: Run, tiny_rows_split: Path, tiny_policy_dir: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path, config(tiny_rows_split, tiny_policy_dir, 2, "ddp"))
    shared = {
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NAME": "remit_lit",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": "127.0.0.1",
        "MASTER_PORT": free_port(),
    }
    tasks = [run.start(**shared, SLURM_PROCID=rank, SLURM_LOCALID=rank) for rank in ("0", "1")]
    try:
        assert [task.wait(SECONDS) for task in tasks] == [0, 0], run.output
    finally:
        for task in tasks:
            kill(task)
    assert_as_alone(run, alone)
