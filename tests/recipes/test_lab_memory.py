"""Memory of the methods of a table: what is kept beside the policy, and what the committed file says."""

import re
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from remit_lit.errors import ConfigError
from remit_lit.recipes.lab_memory import report
from tests.processes import ROOT

TABLE = ROOT / "experiments" / "tables" / "strategies.yaml"
COMMITTED = ROOT / "experiments" / "tables" / "results" / "strategies" / "memory.md"


def lines_of(text: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    return {title: rest for title, *rest in cells[1:]}


def test_a_live_model_is_held_with_all_its_weights_and_a_column_without(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    table = yaml.safe_load(TABLE.read_text())
    table["methods"] = {name: table["methods"][name] for name in ("ntp", "remit", "miniplm", "distillation_top_8")}
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(table, sort_keys=False))
    found = lines_of(report(tmp_path / "table.yaml"))
    model = (ROOT / "remit_lit" / "lab" / "assets" / "reference" / "model.safetensors").stat().st_size / 1e6
    assert found["ReMiT 0.2"][2] == "0.25" and model == pytest.approx(0.25, abs=0.01)
    assert found["NTP"][1:] == ["+0.00", "-", "-"]
    assert found["distillation, column of top 8"][2:] == ["-", "-"]
    assert float(found["MiniPLM"][3]) == pytest.approx(3 * model, abs=0.02)  # the policy, its copy and the reference
    committed = lines_of(COMMITTED.read_text())
    assert {title: committed[title] for title in found} == found
    titles = [method["title"] for method in yaml.safe_load(TABLE.read_text())["methods"].values()]
    assert list(committed) == titles


def test_a_file_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "other.yaml").write_text("model: {}\n")
    for name, what in (("other.yaml", "has no methods"), ("nowhere.yaml", "no file")):
        with pytest.raises(ConfigError, match=rf"^memory: .*{re.escape(what)}"):
            report(Path(tmp_path, name))
