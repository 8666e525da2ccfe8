"""A rank that dies or hangs."""

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml  # type: ignore[import-untyped]

from remit_lit.runs.checkpoint import LAST
from remit_lit.runs.weights import WEIGHTS, read_weights
from tests.faults.test_killed_fit import after, config
from tests.processes import Run, kill


def two_ranks(rows: Path, policy: Path, reference: Path, directory: Path, **changes: Any) -> Run:
    settings = config(rows, policy, reference, devices=2, strategy="ddp")
    return Run(directory, yaml.safe_load(yaml.safe_dump({**settings, **changes})))


def with_pace(settings: dict[str, Any]) -> str:
    callback = {"class_path": "tests.faults.pace.Pace", "init_args": settings}
    return f"--trainer.callbacks={yaml.safe_dump([callback], default_flow_style=True)}"


def rank_one(run: Run) -> int:
    """The process of rank 1, from its heartbeat."""
    return int(yaml.safe_load((run.folder / "heartbeats" / "rank-00001.json").read_text())["pid"])


@pytest.mark.slow
@pytest.mark.fault("kill -9 of one rank of two", "the other ends within 60 s, with a message that names the rank")
def test_a_dead_rank_ends_the_run(
    tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    run = two_ranks(tiny_rows_split, tiny_policy_dir, tiny_reference_dir, tmp_path)
    process = run.start()
    try:
        run.wait(process, after(run, 1))
        os.kill(rank_one(run), signal.SIGKILL)
        start = time.monotonic()
        assert process.wait(60) != 0
        assert time.monotonic() - start < 60
    finally:
        kill(process)
    assert re.search(r"error: rank 0: rank 1 \(process \d+ on \S+\) has died", run.output), run.output


@pytest.mark.slow
@pytest.mark.fault(
    "a rank that is stopped or hangs", "all ranks end within the timeout, with a message that names the rank"
)
@pytest.mark.parametrize("how", ["stopped", "hangs"])
def test_a_hanging_rank_ends_the_run(
    how: str, tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    run = two_ranks(tiny_rows_split, tiny_policy_dir, tiny_reference_dir, tmp_path, watchdog={"timeout": 8.0})
    pace = {"seconds": 0.02, "hang_rank": 1 if how == "hangs" else None}
    process = run.start(with_pace(pace))
    try:
        run.wait(process, after(run, 1))
        other = rank_one(run)
        if how == "stopped":
            os.kill(other, signal.SIGSTOP)
        assert process.wait(60) == 76, run.output
        time.sleep(1)
        assert not Path(f"/proc/{other}").exists() or "Z" in Path(f"/proc/{other}/stat").read_text().split()[2]
    finally:
        kill(process)
    assert re.search(r"rank 1 \(process \d+ on \S+\) made no progress for 8 s; the run ends on all ranks", run.output)


@pytest.mark.slow
@pytest.mark.fault("a loss that is NaN on one rank of two", "both ranks stop at that step, before the weights change")
def test_a_loss_that_breaks_on_one_rank_stops_both(
    tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    run = two_ranks(tiny_rows_split, tiny_policy_dir, tiny_reference_dir, tmp_path)
    assert run.run(with_pace({"break_rank": 1})) != 0
    # Two micro-batches a step: the 20th is the first of step 10.
    assert re.search(r"error: step 10: the loss of (rows \[[\d, ]+\]|another rank) is nan; training stops", run.output)
    assert all(torch.isfinite(value).all() for value in read_weights(run.checkpoints / LAST / WEIGHTS).values())
