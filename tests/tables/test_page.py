"""`table.html`: what it says is what the table says, and its links lead to the runs."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from remit_lit.jobs.job import Job
from remit_lit.tables.page import write_page
from remit_lit.tables.plan import Run
from remit_lit.tables.settings import Method, Primary, RowSettings, Step, TableSettings
from remit_lit.tables.summary import summarize
from tests.inspection.reading import Shown, read_page
from tests.tables.made import contents

SEEDS = range(3)


def settings() -> TableSettings:
    """Of the made table, whose first row is of every model, and whose second of the training."""
    return TableSettings(
        title="Toy & table",
        methods={name: Method(title) for name, title in contents().columns.items()},
        rows={
            "gsm8k": RowSettings("GSM8K", task="lab", metric="accuracy"),
            "bpb": RowSettings("seconds", cost="seconds"),
        },
        output="",
        seeds=list(SEEDS),
        stages={"SFT": Step("posttrain"), "RLVR": Step("posttrain")},
        evaluate={"tasks": ["lab"]},
    )


def job(root: Path, verb: str, name: str) -> Job:
    return Job(name, root, verb, fields={"name": name})


@pytest.fixture
def plan(tmp_path: Path) -> dict[tuple[str, int], Run]:
    """Of each method and seed a training, two stages, and an evaluation of each model; one has a folder."""
    root, found = tmp_path / "cells of <b>", {}
    for method in contents().columns:
        for seed in SEEDS:
            of = f"{method}-{seed}"
            stages = {stage: job(root, "posttrain", f"{stage}-{of}") for stage in ("SFT", "RLVR")}
            evaluations = {
                (stage, "evaluate"): job(root, "evaluate", f"evaluate-{stage}-{of}") for stage in ("", "SFT", "RLVR")
            }
            found[method, seed] = Run(job(root, "fit", f"fit-{of}"), stages, evaluations)
    fit = found["remit", 0].fit
    assert fit is not None
    fit.result.mkdir(parents=True)
    return found


def page(plan: Any, tmp_path: Path, **changes: Any) -> Shown:
    (tmp_path / "table").mkdir()
    summary = summarize(contents(**changes), resamples=50)
    return read_page(write_page(summary, settings(), plan, tmp_path / "table"))


def names_of(shown: Shown, row: str, method: str, seed: int) -> list[str]:
    return [shown.data["jobs"][key]["name"] for key in shown.data["made"][row][method][str(seed)]]


def test_figures_and_differences_are_those_of_the_table(plan: Any, tmp_path: Path) -> None:
    shown = page(plan, tmp_path, primary=Primary("gsm8k", "remit", "ntp"))
    summary = summarize(contents(primary=Primary("gsm8k", "remit", "ntp")), resamples=50)
    row = shown.data["rows"]["gsm8k"]
    assert row["title"] == "GSM8K | accuracy ↑" and row["cells"]["remit"]["isBold"]
    assert row["cells"]["remit"]["seeds"] == [[0, "60.0"], [1, "63.0"], [2, "62.0"]]
    assert row["cells"]["remit"]["published"] == "61.64" and row["cells"]["rho1"]["published"] is None
    found = {one["column"]: one for one in row["differences"]}
    assert list(found) == ["rho1", "remit"] and [found[name]["isPrimary"] for name in found] == [False, True]
    for column, one in found.items():
        difference = summary.cells["gsm8k", column].difference
        assert difference is not None and difference.over_seeds is not None
        assert one["mean"] == difference.mean
        assert one["ends"] == [difference.over_seeds.low, difference.over_seeds.high]
        assert one["texts"][0] == f"{difference.mean:+.1f}"
    assert shown.data["rows"]["bpb"]["cells"]["rho1"]["seeds"][2] == [2, "failed: out of memory at step 7"]


def test_each_cell_names_the_jobs_that_it_is_made_of(plan: Any, tmp_path: Path) -> None:
    shown = page(plan, tmp_path)
    assert names_of(shown, "gsm8k", "remit", 1) == ["fit-remit-1", "evaluate--remit-1"]
    assert names_of(shown, "gsm8k/SFT", "ntp", 0) == ["fit-ntp-0", "SFT-ntp-0", "evaluate-SFT-ntp-0"]
    assert names_of(shown, "bpb", "rho1", 2) == ["fit-rho1-2"]
    made = plan["remit", 0].fit
    found = shown.data["jobs"][made.key]
    assert found["command"] == made.command and found["state"] == "interrupted"
    assert (tmp_path / "table" / unquote(found["folder"])).resolve() == made.result.resolve()
    assert shown.data["jobs"][plan["ntp", 0].fit.key]["folder"] is None


def test_methods_have_the_colours_of_the_figures(plan: Any, tmp_path: Path) -> None:
    columns = page(plan, tmp_path).data["columns"]
    assert columns["ntp"]["look"] == {"color": None, "marker": "o", "dashed": False}
    assert [columns[name]["look"]["color"] for name in ("rho1", "remit")] == ["#0072B2", "#D55E00"]


def test_a_page_is_safe_and_whole(plan: Any, tmp_path: Path) -> None:
    hostile = "</script><img src=x onerror=alert(1)>"
    shown = page(plan, tmp_path, title=hostile, columns={"ntp": hostile, "rho1": "R", "remit": "M"})
    assert shown.elements.count("script") == 2 and not {"img", "b"} & set(shown.elements)
    assert json.dumps(shown.data)  # and it is read back
    assert shown.data["columns"]["ntp"]["title"] == f"{hostile} (baseline)"
