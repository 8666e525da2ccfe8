"""`table` from its YAML to its files, with real runs."""

import contextlib
import csv
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from remit_lit.cli.dispatch import main
from remit_lit.evaluation.results import Evaluation
from tests.processes import short_run

pytestmark = pytest.mark.usefixtures("warm_jobs")


@pytest.fixture
def config(tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path) -> Path:
    return write_config(tiny_rows, tiny_policy_dir, tmp_path)


@dataclass
class Finished:
    """A table of which a method failed: where it and its jobs lie, what was printed, and the command's exit code."""

    table: Path
    cells: Path
    out: str
    err: str
    code: Any

    def copy_cells(self, directory: Path) -> Path:
        return Path(shutil.copytree(self.cells, directory / "cells"))


@pytest.fixture(scope="module")
def finished(tiny_rows: Path, tiny_policy_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The table, made once."""
    place = tmp_path_factory.mktemp("finished")
    config = write_config(tiny_rows, tiny_policy_dir, place)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stop:
        main(["table", f"--config={config}", f"--cells={place}/cells", "--jobs=2"])
    return Finished(place / "table", place / "cells", out.getvalue(), err.getvalue(), stop.value.code)


def write_config(tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path) -> Path:
    """Two methods that train for a few steps, one that cannot, and the model before, with two seeds."""
    asked = {"class_path": "InLoopEvaluation", "init_args": {"tasks": ["lab"], "every_n_steps": 2, "limit": 5}}
    run = {**short_run(tiny_rows, tiny_policy_dir, 4, [asked]), "checkpoint": {"at_end": False}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    table: dict[str, Any] = {
        "title": "a small table",
        "output": str(tmp_path / "table"),
        "experiment": [str(tmp_path / "run.yaml")],
        "seeds": [0, 1],
        "fields": {"data.seed": "{seed}", "data.rows": str(tiny_rows)},
        "methods": {
            "base": {"title": "Base", "model": str(tiny_policy_dir)},
            "ntp": {"title": "NTP", "configs": ["baselines/ntp.yaml"]},
            "slow": {
                "title": "Slow",
                "configs": ["baselines/ntp.yaml"],
                "fields": {"model.optimizer.init_args.lr": 0.01},
            },
            "broken": {"title": "Broken", "fields": {"model.horizon.steps": -3}},
        },
        "baseline": "ntp",
        "evaluate": {"tasks": ["lab"], "limit": 20},
        "rows": {
            "accuracy": {"title": "accuracy", "task": "lab", "metric": "accuracy"},
            "percent": {"title": "accuracy, %", "task": "lab", "metric": "accuracy", "scale": 100},
            "average": {"title": "mean", "mean_of": ["accuracy", "percent"]},
            "nll": {"title": "NLL", "task": "lab", "metric": "nll_correct_result"},
            "tokens": {"title": "tokens", "cost": "tokens", "decimals": 0},
            "speed": {
                "title": "speed-up",
                "curve": "lab/nll_correct_result",
                "higher_is_better": False,
                "speed_up": True,
            },
            "reached": {"title": "tokens to", "curve": "lab/nll_correct_result", "higher_is_better": False},
        },
    }
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(table))
    return tmp_path / "table.yaml"


def lines_of(directory: Path) -> dict[tuple[str, str], dict[str, str]]:
    with open(directory / "cells.csv", newline="") as stream:
        return {(line["row"], line["column"]): line for line in csv.DictReader(stream)}


def test_a_table_is_made_and_says_what_failed(finished):
    assert finished.code == 2 and "4 of 13 jobs failed, broken-0 first" in finished.err
    assert "broken-0: failed" in finished.out and "model.horizon" in finished.out
    lines = lines_of(finished.table)
    assert "model.horizon" in lines["accuracy", "broken"]["missing"] and not lines["accuracy", "broken"]["mean"]
    assert lines["tokens", "base"]["missing"]
    assert float(lines["tokens", "ntp"]["mean"]) == 4 * 2 * 132

    record = json.loads((finished.table / "record.json").read_text())
    jobs = {job["name"]: job for job in record["jobs"]}
    found = [
        Evaluation.read(Path(jobs[f"evaluate-slow-{seed}"]["result"], "evaluation.json")).tasks["lab"].metrics
        for seed in (0, 1)
    ]
    mean = sum(metrics["nll_correct_result"].value for metrics in found) / 2
    assert float(lines["nll", "slow"]["mean"]) == pytest.approx(mean)
    accuracy = float(lines["accuracy", "ntp"]["mean"])
    assert float(lines["average", "ntp"]["mean"]) == pytest.approx((accuracy + 100 * accuracy) / 2)
    assert lines["average", "broken"]["missing"] == lines["accuracy", "broken"]["missing"]
    for name in ("table.md", "table.html", "table.tex", "seeds.csv", "rows.png", "rows.svg", "curve-reached.png"):
        assert (finished.table / name).stat().st_size > 0
    # The rows were not looked through for the lab's problems.
    assert "without --decontaminate against lab" in (finished.table / "table.md").read_text()

    assert float(lines["speed", "ntp"]["mean"]) == 1.0
    with open(finished.table / "seeds.csv", newline="") as stream:
        by_seed = {(line["row"], line["column"], line["seed"]): line for line in csv.DictReader(stream)}
    for (row, column, seed), line in by_seed.items():
        if row == "speed" and line["value"]:
            ours, theirs = (float(by_seed["reached", name, seed]["value"]) for name in (column, "ntp"))
            assert float(line["value"]) == pytest.approx(theirs / ours)


def test_what_is_done_is_reused(config, finished, tmp_path, capsys):
    cells = finished.copy_cells(tmp_path)
    arguments = ["table", f"--config={config}", f"--cells={cells}", "--jobs=2"]
    done = {path: path.stat().st_mtime_ns for path in cells.glob("*/done.json")}
    main([*arguments, "--dry_run=true"])
    # Of the broken method and its evaluation, both seeds.
    assert "4 to run" in capsys.readouterr().out
    config.write_text("# a comment changes nothing\n" + config.read_text().replace("limit: 20", "limit: 10"))
    with pytest.raises(SystemExit):
        main(arguments)
    capsys.readouterr()
    assert done and all(path.stat().st_mtime_ns == then for path, then in done.items())
    assert len(list(cells.glob("evaluate-*/done.json"))) == 2 * 5
    assert lines_of(tmp_path / "table")["accuracy", "ntp"]["n_items"] == "10"


@pytest.mark.fault("a damaged result of a table's cell", "it is told of and made anew")
def test_a_damaged_result_is_told_of_and_made_anew(config, finished, tmp_path, capsys):
    cells = finished.copy_cells(tmp_path)
    arguments = ["table", f"--config={config}", f"--cells={cells}"]
    main([*arguments, "--run=false"])  # which fails for no job
    record = json.loads((tmp_path / "table" / "record.json").read_text())
    found = {job["name"]: Path(job["result"]) for job in record["jobs"]}
    (found["evaluate-ntp-0"] / "evaluation.json").write_text('{"facts": {}, "tas')
    (found["evaluate-ntp-1"] / "evaluation.json").unlink()
    (found["slow-1"] / "run.json").unlink()
    (found["slow-0"].parent / "done.json").write_text("")
    before = lines_of(tmp_path / "table")
    main([*arguments, "--run=false"])
    capsys.readouterr()
    lines = lines_of(tmp_path / "table")
    for row, column in (("accuracy", "ntp"), ("tokens", "slow")):
        assert "damaged" in lines[row, column]["missing"] and "run the table again" in lines[row, column]["missing"]
    assert lines["accuracy", "slow"]["mean"] and lines["tokens", "ntp"]["mean"]
    with pytest.raises(SystemExit):  # for the broken method's sake
        main(arguments)
    capsys.readouterr()
    assert lines_of(tmp_path / "table") == before


def test_what_is_better_up_and_down_has_no_mean(config, finished, tmp_path, capsys):
    cells = finished.copy_cells(tmp_path)
    config.write_text(config.read_text().replace("- percent", "- nll"))
    with pytest.raises(SystemExit):
        main(["table", f"--config={config}", f"--cells={cells}", "--run=false"])
    assert "accuracy, nll cannot be averaged" in capsys.readouterr().err


def test_a_row_that_no_evaluation_has_is_named(config, finished, tmp_path, capsys):
    cells = finished.copy_cells(tmp_path)
    text = config.read_text().replace("metric: accuracy", "metric: acuracy")
    config.write_text(text)
    with pytest.raises(SystemExit):
        main(["table", f"--config={config}", f"--cells={cells}", "--run=false"])
    assert "lab has no metric 'acuracy'; did you mean accuracy? it has accuracy" in capsys.readouterr().err


def test_a_table_of_runs_that_measure_themselves_evaluates_only_what_no_method_trained(
    tiny_rows, tiny_policy_dir, tmp_path, capsys
):
    path = write_config(tiny_rows, tiny_policy_dir, tmp_path)
    table = yaml.safe_load(path.read_text())
    run = yaml.safe_load((tmp_path / "run.yaml").read_text())
    run["trainer"]["callbacks"] = [{"class_path": "LabEvaluation", "init_args": {"test_problems": 20}}]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    del table["methods"]["broken"]
    table["rows"] = {name: table["rows"][name] for name in ("accuracy", "nll", "tokens")}
    table |= {"in_training": True, "share_process": True, "block": "start", "vary": {"start": ["a", "b"]}}
    path.write_text(yaml.safe_dump(table))
    main(["table", f"--config={path}", f"--cells={tmp_path / 'cells'}", "--jobs=2"])
    capsys.readouterr()
    assert len(list((tmp_path / "cells").glob("fit-*/done.json"))) == 4
    assert len(list((tmp_path / "cells").glob("evaluate-*/done.json"))) == 1
    lines = lines_of(tmp_path / "table")
    record = json.loads((tmp_path / "table" / "record.json").read_text())
    found = [Path(job["result"], "evaluation.json") for job in record["jobs"] if job["name"].startswith("slow-")]
    metrics = [Evaluation.read(file).tasks["lab"].metrics["nll_correct_result"].value for file in found]
    assert float(lines["nll", "slow"]["mean"]) == pytest.approx(sum(metrics) / 2)
    assert lines["accuracy", "base"]["mean"] and lines["nll", "slow"]["diff_blocks_low"]
