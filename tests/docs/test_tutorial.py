"""The tutorial, typed as it stands in an empty directory."""

import csv
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

TUTORIAL = ROOT / "docs" / "tutorial.md"
_BLOCK = re.compile(r'^```(?P<language>\w+)(?: title="(?P<file>[^"]+)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)
_SECONDS = 1200  # of a command on a busy machine


def follow(page: Path, directory: Path) -> None:
    """Write each block with a title to that file, and run each of bash, in order."""
    binaries, offline = Path(sys.executable).parent, {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    environment = {**os.environ, **offline, "PYTHONPATH": str(ROOT), "PATH": f"{binaries}:{os.environ['PATH']}"}
    for block in _BLOCK.finditer(page.read_text()):
        if block["file"]:
            (directory / block["file"]).write_text(block["text"])
        elif block["language"] == "bash":
            command = ["bash", "-euo", "pipefail", "-c", block["text"]]
            done = subprocess.run(
                command, cwd=directory, env=environment, capture_output=True, text=True, timeout=_SECONDS
            )
            assert done.returncode == 0, f"{block['text']}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_the_tutorial_ends_with_a_table_of_every_method_and_seed(tmp_path: Path) -> None:
    follow(TUTORIAL, tmp_path)
    table = tmp_path / "table"
    for name in ("table.md", "table.tex", "cells.csv", "record.json", "rows.png", "rows.svg"):
        assert (table / name).stat().st_size > 0
    with open(table / "seeds.csv", newline="") as stream:
        lines = list(csv.DictReader(stream))
    for row in ("prose", "code"):
        found = {(line["column"], line["seed"]): float(line["value"]) for line in lines if line["row"] == row}
        # The base is there already: one model, whatever the seed.
        assert set(found) == {("base", "1"), *((method, seed) for method in ("ntp", "rho1", "remit") for seed in "123")}
        assert all(math.isfinite(value) and 0 < value < 8 for value in found.values())
        assert all(found["ntp", seed] < found["base", "1"] for seed in "123")
    with open(table / "cells.csv", newline="") as stream:
        cells = [line for line in csv.DictReader(stream) if line["row"] in ("prose", "code")]
    assert len(cells) == 8 and all(math.isfinite(float(line["mean"])) for line in cells)
    assert "without --decontaminate" not in (table / "table.md").read_text()
