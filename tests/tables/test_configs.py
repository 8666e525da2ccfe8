"""Every table and flywheel of the repository can be planned, and the paper's table shows what was published."""

import csv
import re

import pytest
import yaml  # type: ignore[import-untyped]

from remit_lit.cli.dispatch import main
from tests.processes import ROOT, documented_commands

TABLES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "experiments" / "tables").glob("*.yaml"))


@pytest.mark.parametrize("config", TABLES)
def test_every_table_can_be_planned(config, tmp_path, monkeypatch, capsys, no_weights):
    monkeypatch.chdir(ROOT)
    main(["table", f"--config={config}", f"--cells={tmp_path}", "--dry_run=true"])
    said = capsys.readouterr().out
    assert re.search(r"(\d+) jobs, \1 to run", said)
    assert config in (ROOT / config).read_text()  # the command that its comment gives
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [*documented_commands("table"), *documented_commands("flywheel")], ids=" ".join)
def test_the_commands_of_the_documentation_can_be_planned(command, tmp_path, monkeypatch, capsys, no_weights):
    monkeypatch.chdir(ROOT)
    main([*command, f"--cells={tmp_path}", "--dry_run=true"])
    assert " to run: " in capsys.readouterr().out


def test_a_table_may_extend_one_that_extends_another(tmp_path, monkeypatch, capsys, no_weights):
    monkeypatch.chdir(ROOT)
    smaller = "extends: experiments/tables/epsilon.yaml\nseeds: [0]\nvary: {documents: [1], base_documents: [0]}\n"
    (tmp_path / "b.yaml").write_text(smaller)
    (tmp_path / "c.yaml").write_text(f"extends: {tmp_path}/b.yaml\ntitle: a smaller one\n")
    arguments = ["table", f"--config={tmp_path}/c.yaml", f"--cells={tmp_path}/cells", "--dry_run=true"]
    main(arguments)
    # A base, an SFT and a reference; six methods and an evaluation of each.
    assert "15 jobs, 15 to run" in capsys.readouterr().out
    (tmp_path / "b.yaml").write_text(f"extends: {tmp_path}/c.yaml\n")
    with pytest.raises(SystemExit):
        main(arguments)
    assert "extend each other in a circle" in capsys.readouterr().err


def test_the_flywheel_can_be_planned(tmp_path, monkeypatch, capsys, no_weights):
    monkeypatch.chdir(ROOT)
    arguments = ["flywheel", "--config=experiments/lab/flywheel.yaml", f"--cells={tmp_path}", "--dry_run=true"]
    main([*arguments, "--rounds=1"])
    one = int(re.findall(r"(\d+) jobs", capsys.readouterr().out)[0])
    main([*arguments, "--rounds=3"])
    three = int(re.findall(r"(\d+) jobs", capsys.readouterr().out)[0])
    # Of 3 seeds: a base; and of each arm and round the run, three stages, and an evaluation of each of the four models.
    assert one == 3 * (1 + 8 * 4) and three == 3 * (1 + 8 * (1 + 3 * 3))


def test_the_papers_table_shows_published_figures_and_that_ours_were_not_run(tmp_path, monkeypatch, capsys, no_weights):
    monkeypatch.chdir(ROOT)
    output = tmp_path / "table"
    main(
        [
            "table",
            "--config=experiments/tables/olmo2_1b.yaml",
            "--run=false",
            f"--cells={tmp_path}",
            f"--output={output}",
        ]
    )
    assert "not run" in capsys.readouterr().out
    published = yaml.safe_load((ROOT / "baselines" / "results.yaml").read_text())
    with open(output / "cells.csv", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert all(not line["mean"] for line in lines)
    found = {(line["row"], line["column"]): line["published"] for line in lines}
    for row, figures in published["rows"].items():
        for column, figure in zip(published["columns"], figures, strict=True):
            if column != "mean":
                assert float(found[row, column]) == figure
    assert sum(bool(value) for value in found.values()) == 55
