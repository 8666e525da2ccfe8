"""What a report says of runs whose folders are known."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from remit_lit.errors import ConfigError, DataError
from remit_lit.report.report import write_report
from remit_lit.runs.wording import is_share, title_of
from remit_lit.tables.drawing import styles
from tests.inspection.reading import read_page
from tests.report.made import made_run

LOSS = [(9, 2.5), (19, 2.0), (29, 1.5)]


def unchanged(_: Path) -> Mapping[str, Any]:
    return {}


def report(*runs: Path, changed: Any = unchanged) -> dict[str, Any]:
    """The data of the page of these runs."""
    return read_page(write_report(runs, runs[0].parent / "report.html", changed)).data


def panels(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {panel["figure"]: panel for section in data["sections"] for panel in section["panels"]}


def test_each_figure_has_a_panel_with_a_line_for_each_run(tmp_path: Path) -> None:
    made_run(tmp_path / "a", {"train/loss": LOSS, "val/nll/web": [(0, 3.0), (29, 2.0)]})
    made_run(tmp_path / "b", {"train/loss": [(9, 5.0)]})
    data = report(tmp_path / "a", tmp_path / "b")
    found = panels(data)
    assert list(found) == ["train/loss", "val/nll/web"]
    assert [section["title"] for section in data["sections"]] == ["Loss", "Validation"]
    assert found["train/loss"]["lines"] == [
        {"run": 0, "points": [[9, 2.5], [19, 2.0], [29, 1.5]]},
        {"run": 1, "points": [[9, 5.0]]},
    ]
    assert found["val/nll/web"]["lines"] == [{"run": 0, "points": [[0, 3.0], [29, 2.0]]}]
    assert data["results"][0] == {
        "title": "validation NLL of web, nats a token",
        "values": [["3.0000 at step 0", "2.0000"], ["", ""]],
    }
    looks = styles(["a", "b"])
    assert [(run["name"], run["look"]["color"]) for run in data["runs"]] == [(n, looks[n]["color"]) for n in "ab"]


def test_constants_are_said_and_not_drawn(tmp_path: Path) -> None:
    weights = {"weights/mean": [(1, 1.0), (2, 1.0)], "weights/std": [(1, 0.0), (2, 0.1)]}
    made_run(tmp_path / "a", {**weights, "epoch": [(1, 0.0), (2, 1.0)], "tokens_seen": [(1, 10.0), (2, 20.0)]})
    data = report(tmp_path / "a")
    assert list(panels(data)) == ["weights/std"]
    assert data["sections"][0]["constants"] == ["mean weight of a token: 1"]


def test_many_points_are_means_of_their_neighbours_and_the_page_says_so(tmp_path: Path) -> None:
    values = [math.sin(step) for step in range(1500)]
    made_run(tmp_path / "a", {"train/loss": list(enumerate(values))})
    panel = panels(report(tmp_path / "a"))["train/loss"]
    points = panel["lines"][0]["points"]
    assert [step for step, _ in points] == list(range(2, 1500, 3))
    assert [value for _, value in points] == pytest.approx(
        [sum(values[at : at + 3]) / 3 for at in range(0, 1500, 3)], rel=1e-5
    )
    assert panel["notes"] == ["a: each point is the mean of 3 logged ones"]


def test_values_that_are_not_finite_are_gaps(tmp_path: Path) -> None:
    made_run(tmp_path / "a", {"train/grad_norm": [(1, 1.0), (2, math.nan), (3, math.inf), (4, 2.0)]})
    panel = panels(report(tmp_path / "a"))["train/grad_norm"]
    assert panel["lines"][0]["points"] == [[1, 1.0], [2, None], [3, None], [4, 2.0]]
    assert panel["notes"] == ["a: 2 of 4 values are not finite"]


def test_settings_that_runs_differ_in_come_first(tmp_path: Path) -> None:
    settings = {
        "a": {"model.z_loss": 0.1, "data.mix": {"web": 1}, "run_dir": "a"},
        "b": {"model.z_loss": 0.1, "data.seed": None, "run_dir": "b"},
    }
    for name in settings:
        made_run(tmp_path / name)
    data = report(tmp_path / "a", tmp_path / "b", changed=lambda path: settings[path.name])
    assert [(line["name"], line["values"], line["differs"]) for line in data["settings"]] == [
        ("data.mix", ['{"web": 1}', None], True),
        ("data.seed", [None, "null"], True),
        ("model.z_loss", ["0.1", "0.1"], False),
    ]


def test_data_results_and_facts_are_those_of_the_record(tmp_path: Path) -> None:
    made_run(tmp_path / "a", {"train/loss": LOSS}, accuracy=0.25, ended="2026-01-02", ended_at_step=30)
    data = report(tmp_path / "a")
    [run] = data["runs"]
    assert run["state"] == "ended 2026-01-02 after 30 steps" and run["missing"] == []
    assert run["data"] == [
        {
            "title": "train, 4 rows",
            "sources": [["web", "3", "300", "75.0 %"], ["<b>noise</b>", "1", "100", "25.0 %"]],
        }
    ]
    assert data["measured"] == [{"title": "lab, accuracy (2 items)", "values": [["", "25.00 %"]]}]
    assert ["strategy", "ReMiT (epsilon 0.2)"] in run["facts"]


def test_an_unfinished_run_says_how_far_it_is(tmp_path: Path) -> None:
    made_run(tmp_path / "a", {"train/loss": LOSS})
    [run] = report(tmp_path / "a")["runs"]
    assert run["state"] == "has not ended, last logged at step 29 of 100"
    assert run["missing"] == ["The run has not ended: it is still going on, or was interrupted."]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("metrics.csv", "step,train/loss\nx,1.0\n", "What was logged is not shown: "),
        ("metrics.csv", None, "Nothing is logged yet: "),
        ("run.json", '{"steps": ', "run.json is damaged ("),
        ("run.json", None, "There is no run.json: the run has not started to train."),
        ("config.yaml", None, "There is no config.yaml, so nothing is known of its settings."),
        ("evaluation.json", '{"tasks"', "The results at the end are not shown: "),
        ("evaluations.jsonl", "{}\n", "The evaluations in evaluations.jsonl are not shown: "),
    ],
)
def test_a_page_says_what_is_missing_or_damaged(file: str, content: str | None, said: str, tmp_path: Path) -> None:
    made_run(tmp_path / "a", {"train/loss": LOSS}, accuracy=0.5, ended="2026-01-02")
    if content is None:
        (tmp_path / "a" / file).unlink()
    else:
        (tmp_path / "a" / file).write_text(content)
    [run] = report(tmp_path / "a")["runs"]
    assert len(run["missing"]) == 1 and run["missing"][0].startswith(said)


@pytest.mark.parametrize("error", [ConfigError("model.old: there is no such field\nhint"), DataError("damaged")])
def test_a_config_of_another_version_is_said_and_the_rest_is_shown(error: Exception, tmp_path: Path) -> None:
    def refuse(_: Path) -> Mapping[str, Any]:
        raise error

    made_run(tmp_path / "a", {"train/loss": LOSS}, ended="2026-01-02")
    data = report(tmp_path / "a", changed=refuse)
    first = str(error).splitlines()[0]
    assert data["runs"][0]["missing"] == [f"What differs from the defaults is not known: {first}"]
    assert list(panels(data)) == ["train/loss"]


def test_runs_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    for name in ("fit-a/result", "fit-b/result", "fit-c"):
        made_run(tmp_path / name)

    def names(*runs: str) -> list[str]:
        return [run["name"] for run in report(*(tmp_path / run for run in runs))["runs"]]

    assert names("fit-a/result", "fit-b/result") == ["fit-a", "fit-b"]
    assert names("fit-a/result", "fit-c") == ["fit-a/result", "fit-c"]
    assert names("fit-c") == ["fit-c"]


def test_the_page_is_whole_in_itself_and_safe(tmp_path: Path) -> None:
    hostile = "</script><img src=x onerror=alert(1)>"
    made_run(tmp_path / "a", {f"train/nll/{hostile}": LOSS}, policy=hostile)
    page = read_page(write_report([tmp_path / "a"], tmp_path / "x.html", unchanged))
    assert page.elements.count("script") == 2 and "img" not in page.elements
    assert "://" not in page.html.replace("http://www.w3.org/2000/svg", "")
    again = write_report([tmp_path / "a"], tmp_path / "y.html", unchanged)
    assert again.read_bytes() == (tmp_path / "x.html").read_bytes()


def test_what_is_no_run_is_refused_by_name(tmp_path: Path) -> None:
    made_run(tmp_path / "job" / "result")
    for runs, message in (
        ([], "runs: got none"),
        ([tmp_path / "nowhere"], "runs: there is no folder .*nowhere"),
        ([tmp_path], "is no folder of a run"),
        ([tmp_path / "job"], "did you mean .*job/result"),
        ([tmp_path / "job" / "result"] * 2, "give each run once"),
    ):
        with pytest.raises(ConfigError, match=message):
            write_report(runs, tmp_path / "report.html", unchanged)


@pytest.mark.parametrize(
    ("figure", "title", "share"),
    [
        ("train/grad_norm", "gradient norm before clipping", False),
        ("val/nll/web_text", "validation NLL of web text, nats a token", False),
        ("lab/accuracy", "lab, accuracy", True),
        ("eval/gsm8k/exact_match", "eval, gsm8k, exact match", True),
        ("weights/clipped_low", "share of tokens clipped low", True),
        ("lab/test_standard_error", "lab, test standard error", False),
    ],
)
def test_figures_have_titles_in_words(figure: str, title: str, share: bool) -> None:
    assert (title_of(figure), is_share(figure)) == (title, share)
