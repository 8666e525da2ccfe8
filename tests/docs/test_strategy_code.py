"""The strategies that README.md and its guide write down are some, and the guide's table comes out."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from remit_lit.weighting.testing import check_strategy
from tests.processes import ROOT

GUIDE = ROOT / "docs" / "guides" / "strategies.md"


@pytest.mark.parametrize(
    ("page", "name", "settings"),
    [(ROOT / "README.md", "Focal", {"gamma": 1.5}), (GUIDE, "TanhExcess", {"strength": 0.5})],
    ids=["README", "guide"],
)
def test_the_strategy_keeps_the_contract(page: Path, name: str, settings: dict[str, float]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    (code,) = (block for block in blocks if f"class {name}" in block)
    names: dict[str, Any] = {}
    exec(code, names)
    check_strategy(names[name](**settings), examples=30)


@pytest.mark.slow
def test_the_guide_leads_from_an_equation_to_a_table(tmp_path: Path) -> None:
    for name, content in re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", GUIDE.read_text(), re.DOTALL):
        (tmp_path / name).write_text(content)
    command = [sys.executable, "-m", "remit_lit", "table", "--config", "tanh.yaml", "--jobs", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "runs" / "tables" / "tanh" / "table.md").read_text()
    assert "- Primary comparison: TanhExcess against NTP" in table
