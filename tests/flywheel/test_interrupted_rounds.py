"""The whole command in a process of its own, killed in each stage of the second round, and started again."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import ROOT, SECONDS, kill

# Random models become no better, and the flywheel would stop after one round.
GO_ON = """
import sys
import remit_lit.flywheel.flywheel as flywheel
from remit_lit.cli.dispatch import main
flywheel.judge = lambda *_: (True, "goes on")
main(sys.argv[1:])
"""


def start(config: Path, cells: Path, output: Path) -> "subprocess.Popen[bytes]":
    arguments = [f"--config={config}", f"--cells={cells}", f"--output={output}", "--rounds=2", "--jobs=2"]
    environment = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    with open(f"{output}.txt", "ab") as printed:
        return subprocess.Popen(
            [sys.executable, "-c", GO_ON, "flywheel", *arguments],
            env={**os.environ, **environment},
            cwd=ROOT,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finished(cells: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in cells.glob("*/done.json")}


@pytest.mark.fault("kill -9 in a flywheel's second round", "it goes on, and ends the same")
@pytest.mark.slow
def test_killed_anywhere_in_the_second_round_it_goes_on_and_ends_the_same(config: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert start(config, tmp_path / "cells", whole).wait(2 * SECONDS) == 0, Path(f"{whole}.txt").read_text()
    record = {job["name"]: job for job in json.loads((whole / "record.json").read_text())["jobs"]}

    cells = tmp_path / "others"
    for name in ("ntp_2-0", "remit_2-0", "remit_2_sft-0", "evaluate-remit_2_sft-0"):
        process, folder = start(config, cells, parts), cells / Path(record[name]["result"]).parent.name
        before, end = finished(cells), time.monotonic() + SECONDS
        while not (folder / "job.json").exists():
            assert process.poll() is None and time.monotonic() < end, Path(f"{parts}.txt").read_text()
            time.sleep(0.001)
        kill(process)
        assert not (folder / "done.json").exists()
        assert before.items() <= finished(cells).items()
    before = finished(cells)
    assert start(config, cells, parts).wait(2 * SECONDS) == 0, Path(f"{parts}.txt").read_text()
    assert before.items() <= finished(cells).items()
    assert {path.parent.name for path in finished(cells)} == {
        Path(cell["result"]).parent.name for cell in record.values()
    }
    for name in ("seeds.csv", "cells.csv"):
        assert (parts / name).read_text() == (whole / name).read_text()
