"""Runs that are killed go on as if nothing had happened."""

import csv
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from remit_lit.cli.dispatch import main
from remit_lit.runs.checkpoint import all_checkpoints
from tests.distributed.test_engines import engine
from tests.helpers import save_model
from tests.processes import Run, furthest, kill

STEPS = 30


@pytest.fixture(scope="module")
def policy_with_dropout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy whose training draws random numbers."""
    return save_model(tmp_path_factory.mktemp("policy"), seed=1, attention_dropout=0.2)


def config(rows: Path, policy: Path, reference: Path, **trainer: Any) -> dict[str, Any]:
    """A run of ReMiT, slow enough to be killed in its midst, with worker processes and a checkpoint every 3 steps."""
    pace = {"class_path": "tests.faults.pace.Pace", "init_args": {"seconds": 0.02}}
    return {
        "model": {
            "policy": {"path": str(policy)},
            "weighting": {"class_path": "ReMiT"},
            "reference": {"class_path": "LiveReference", "init_args": {"model": {"path": str(reference)}}},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
            "horizon": {"steps": STEPS},
        },
        "data": {"rows": str(rows), "batch_size": 2, "num_workers": 1},
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "accumulate_grad_batches": 2,
            "gradient_clip_val": 0.5,
            "log_every_n_steps": 1,
            "val_check_interval": 20,
            "enable_progress_bar": False,
            "callbacks": [pace],
            **trainer,
        },
        "checkpoint": {"every_n_train_steps": 3},
    }


@pytest.fixture(scope="module")
def undisturbed(
    tiny_rows_split: Path, policy_with_dropout: Path, tiny_reference_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """The run of one process."""
    settings = config(tiny_rows_split, policy_with_dropout, tiny_reference_dir)
    return Run(tmp_path_factory.mktemp("undisturbed"), settings).finish()


def after(run: Run, checkpoints: int) -> Any:
    """Whether so many checkpoints were ever complete."""
    seen: set[str] = set()

    def reached() -> bool:
        seen.update(path.name for path in all_checkpoints(run.checkpoints))
        return len(seen) >= checkpoints

    return reached


def kill_several_times(run: Run, moments: list[int]) -> None:
    """Kill and go on, each time after a number of checkpoints more."""
    for count, checkpoints in enumerate(moments):
        run.start_and_kill(
            after(run, checkpoints + len(all_checkpoints(run.checkpoints))), *(["--ckpt_path=last"] if count else [])
        )


def assert_same_run(resumed: Run, undisturbed: Run, kills: int = 0) -> None:
    """Bit for bit the same figures of every step, and the same weights.

    SIGKILL between a checkpoint and the line of its step in metrics.csv loses that line: at most one for each kill.
    """
    found = resumed.metrics
    assert sorted(undisturbed.metrics) == list(range(STEPS))
    assert len(found) >= STEPS - kills
    for step, row in found.items():
        assert row == undisturbed.metrics[step], step
    assert all(torch.equal(value, undisturbed.weights[name]) for name, value in resumed.weights.items())


@pytest.mark.fault("kill -9 during training, one process", "resumed, the run is bit for bit the undisturbed one")
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))], ids=lambda seed: f"moments-{seed}"
)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    seed: int,
    undisturbed: Run,
    tiny_rows_split: Path,
    policy_with_dropout: Path,
    tiny_reference_dir: Path,
    tmp_path: Path,
) -> None:
    settings = config(tiny_rows_split, policy_with_dropout, tiny_reference_dir)
    killed = Run(tmp_path / "killed", settings)
    kill_several_times(killed, [random.Random(seed).randint(1, 3) for _ in range(2)])
    killed.finish("--ckpt_path=last")
    assert_same_run(killed, undisturbed, kills=2)
    with open(killed.folder / "tidy_metrics.csv", newline="") as stream:
        losses = [line for line in csv.DictReader(stream) if (line["group"], line["metric"]) == ("train", "loss")]
    assert [int(line["step"]) for line in losses] == sorted(killed.metrics)
    assert [float(line["value"]) for line in losses] == pytest.approx(killed.losses, rel=5e-6)
    start = AutoModelForCausalLM.from_pretrained(policy_with_dropout).state_dict()
    assert furthest(killed.weights, {name: start[name] for name in killed.weights}) > 1e-3


@pytest.mark.slow
@pytest.mark.fault("kill -9 of all ranks during training", "resumed, losses and weights are within 1e-6")
@pytest.mark.parametrize("engine_name", ["ddp", "zero1", "zero2", "zero3"])
def test_killed_ranks_go_on(
    engine_name: str, tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    settings = config(tiny_rows_split, tiny_policy_dir, tiny_reference_dir, devices=2, strategy=engine(engine_name))
    undisturbed = Run(tmp_path / "undisturbed", settings).finish()
    killed = Run(tmp_path / "killed", settings)
    kill_several_times(killed, [2, 1])
    killed.finish("--ckpt_path=last")
    expected, found = undisturbed.metrics, killed.metrics
    assert len(found) >= STEPS - 2
    for step, row in found.items():
        assert float(row["train/loss"]) == pytest.approx(float(expected[step]["train/loss"]), abs=1e-6)
    assert furthest(killed.weights, undisturbed.weights) < 1e-6


@pytest.mark.fault("SIGTERM or SIGUSR1", "a checkpoint, exit code 75 within 30 s, and the same run when resumed")
@pytest.mark.parametrize(
    ("number", "devices"),
    [
        (signal.SIGTERM, 1),
        pytest.param(signal.SIGUSR1, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 2, marks=pytest.mark.slow),
    ],
    ids=["SIGTERM", "SIGUSR1", "SIGTERM-2-ranks"],
)
def test_a_preempted_run_saves_and_goes_on(
    number: signal.Signals,
    devices: int,
    undisturbed: Run,
    tiny_rows_split: Path,
    policy_with_dropout: Path,
    tiny_reference_dir: Path,
    tmp_path: Path,
) -> None:
    settings = config(
        tiny_rows_split,
        policy_with_dropout,
        tiny_reference_dir,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
    )
    expected = undisturbed if devices == 1 else Run(tmp_path / "undisturbed", settings).finish()
    run = Run(tmp_path / "preempted", settings)
    process = run.start()
    try:
        run.wait(process, after(run, 2))
        before = all_checkpoints(run.checkpoints)[-1]
        if devices == 1:
            os.killpg(process.pid, number)  # workers too, as a scheduler does
        else:
            process.send_signal(number)
        assert process.wait(30) == 75, run.output
    finally:
        kill(process)
    assert "preempted: step " in run.output and "Traceback" not in run.output.split("preempted: ")[-1]
    assert all_checkpoints(run.checkpoints)[-1] > before
    run.finish("--ckpt_path=last")
    assert_same_run(run, expected)


@pytest.mark.slow
@pytest.mark.fault("resumed with another number of ranks", "losses and weights of the undisturbed run within 1e-6")
@pytest.mark.parametrize(
    ("engine_name", "then"), [("ddp", "auto"), ("zero1", "zero1"), ("zero2", "zero2"), ("zero2", "zero1")]
)
def test_a_run_goes_on_with_another_number_of_ranks(
    engine_name: str, then: str, tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    settings = config(tiny_rows_split, tiny_policy_dir, tiny_reference_dir, devices=2, strategy=engine(engine_name))
    undisturbed = Run(tmp_path / "undisturbed", settings).finish()
    run = Run(tmp_path / "run", settings)
    run.start_and_kill(after(run, 2))
    checkpoint = all_checkpoints(run.checkpoints)[-1]
    if engine_name.startswith("zero"):
        main(["convert", f"--checkpoint={checkpoint}"])
        checkpoint = run.folder / "universal" / checkpoint.name
    settings["trainer"] |= {"devices": 1, "strategy": engine(then)}
    settings["data"] |= {"batch_size": 2 * settings["data"]["batch_size"]}
    run.rewrite(settings)
    run.finish(f"--ckpt_path={checkpoint}")
    assert run.losses[-1] == pytest.approx(undisturbed.losses[-1], abs=1e-6)
    for step, row in run.metrics.items():
        assert float(row["train/loss"]) == pytest.approx(float(undisturbed.metrics[step]["train/loss"]), abs=1e-6)
    assert furthest(run.weights, undisturbed.weights) < 1e-6
