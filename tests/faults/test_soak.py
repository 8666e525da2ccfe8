"""A long run of the lab."""

import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from tests.processes import ROOT

STEPS, EVERY = 5_000, 50


@pytest.mark.slow
@pytest.mark.fault(
    "5,000 steps with validations and checkpoints", "memory stays within 2 %, and descriptors are not more"
)
def test_a_long_run_holds_no_more_at_its_end(tmp_path: Path) -> None:
    record = tmp_path / "footprint.txt"
    footprint = {"class_path": "tests.faults.pace.Footprint", "init_args": {"record": str(record), "every": EVERY}}
    config = {
        "model": {"horizon": {"steps": STEPS}},
        "data": {"rows": str(tmp_path / "rows"), "validation_batch_size": 64},
        "trainer": {
            "callbacks": [{"class_path": "LabEvaluation"}, footprint],
            "val_check_interval": 500,
            "enable_progress_bar": False,
        },
        "checkpoint": {"every_n_train_steps": 250, "keep_last": 2},
        "run_dir": str(tmp_path / "run"),
    }
    (tmp_path / "soak.yaml").write_text(yaml.safe_dump(config))
    configs = (ROOT / "experiments/quickstart.yaml", tmp_path / "soak.yaml")
    command = [sys.executable, "-m", "remit_lit", "fit", *(f"--config={config}" for config in configs)]
    subprocess.run(command, cwd=ROOT, check=True)
    steps, memory, descriptors = zip(*(map(int, line.split()) for line in record.read_text().splitlines()), strict=True)
    assert steps == tuple(range(EVERY, STEPS + 1, EVERY))
    early, late = slice(20, 40), slice(80, 100)  # what comes before fills caches, and what the allocator keeps
    assert statistics.median(memory[late]) == pytest.approx(statistics.median(memory[early]), rel=0.02)
    assert max(descriptors[late]) <= max(descriptors[early])
