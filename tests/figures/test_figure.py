"""Figures by their verb, from runs that are known: the data, the verdicts, and what is said of what was not run."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from remit_lit.evaluation.results import Metric
from remit_lit.tables.contents import Contents, Entry, Row
from remit_lit.tables.summary import summarize
from tests.figures.made import Made

pytest.importorskip("matplotlib")

TOKENS = {"a": {"title": "score", "over": "tokens"}}
STAGES = {"a": {"title": "gain", "over": "stage"}}


def claim(**changes: Any) -> dict[str, Any]:
    return {"paper": "In the paper the first is above", "higher": "remit", "lower": "ntp", **changes}


def curves(figure: Made, gains: list[float]) -> None:
    """NTP rises to 0.4 with seed 0; ReMiT ends so much above it."""
    for seed, gain in enumerate(gains):
        figure.train("ntp", seed, [(100, 0.2), (200, 0.4 + 0.01 * seed)])
        figure.train("remit", seed, [(100, 0.3), (200, 0.4 + 0.01 * seed + gain)])


def test_the_data_are_what_the_runs_found(tmp_path: Path) -> None:
    made = Made(tmp_path)
    curves(made, [0.1, 0.12, 0.14])
    made.draw({"panels": TOKENS, "series": ["ntp", "remit"], "measure": "lab/accuracy"})
    assert list(made.lines[0]) == ["figure", "series", "seed", "x", "y", "missing"]
    assert made.points("NTP", 0) == [("100.0", 0.2), ("200.0", 0.4)]
    assert made.points("ReMiT", 2) == [("100.0", 0.3), ("200.0", pytest.approx(0.56))]
    assert len(made.lines) == 2 * 3 * 2
    svg = (made.output / "figure.svg").read_text()
    assert "NTP, 3 seeds" in svg and (made.output / "figure.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ([0.1, 0.12, 0.14], "ours agrees"),
        ([-0.1, -0.12, -0.14], "ours disagrees"),
        ([0.1, -0.12, 0.14], "ours does not tell"),
    ],
)
def test_the_verdict_is_that_of_the_paired_interval(gains: list[float], said: str, tmp_path: Path) -> None:
    made = Made(tmp_path)
    curves(made, gains)
    made.draw({"panels": TOKENS, "series": ["ntp", "remit"], "measure": "lab/accuracy", "claims": [claim()]})
    line = next(line for line in made.caption.splitlines() if "In the paper" in line)
    assert line.startswith(f"- In the paper the first is above; {said}: ")
    interval = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert f"{np.mean(gains):+.3g}" in line
    assert f"{interval.low:+.3g} to {interval.high:+.3g}" in line and "over 3 seeds" in line


@pytest.mark.parametrize(
    ("size", "said"),
    [(0.12, "ours agrees: "), (0.5, "ours agrees, but is smaller: "), (0.01, "ours agrees, but is larger: ")],
)
def test_agreement_in_sign_alone_is_said_where_the_papers_size_is_known(size: float, said: str, tmp_path: Path) -> None:
    made = Made(tmp_path)
    curves(made, [0.1, 0.12, 0.14])
    claims = [claim(size=size)]
    made.draw({"panels": TOKENS, "series": ["ntp", "remit"], "measure": "lab/accuracy", "claims": claims})
    assert said in made.caption


def test_the_interval_over_blocks_stands_beside_that_over_seeds(tmp_path: Path) -> None:
    made = Made(tmp_path, seeds=[0, 1, 2, 3])
    made.content |= {"vary": {"first_base": [5, 5, 6, 6]}, "block": "first_base"}
    gains = [0.1, 0.12, 0.2, 0.22]
    curves(made, gains)
    made.draw({"panels": TOKENS, "series": ["ntp", "remit"], "measure": "lab/accuracy", "claims": [claim()]})
    interval = stats.ttest_1samp([np.mean(gains[:2]), np.mean(gains[2:])], 0).confidence_interval(0.95)
    assert "ours agrees" in made.caption and "over 4 seeds" in made.caption
    assert f"; over first_base {interval.low:+.3g} to {interval.high:+.3g})" in made.caption


def test_one_seed_does_not_tell(tmp_path: Path) -> None:
    made = Made(tmp_path, seeds=[0])
    curves(made, [0.1])
    made.draw({"panels": TOKENS, "series": ["ntp", "remit"], "measure": "lab/accuracy", "claims": [claim()]})
    assert "ours does not tell: the last lab/accuracy, ReMiT less NTP is +0.1 in the one seed" in made.caption


def test_what_was_not_run_is_said_in_data_caption_and_plot(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for seed in (0, 1):
        made.train("ntp", seed, [(100, 0.2)])
    claims = [claim()]
    made.draw({"panels": TOKENS, "series": ["ntp", "remit"], "measure": "lab/accuracy", "claims": claims})
    assert "ours does not tell: ReMiT was not run." in made.caption
    assert "- ReMiT, seeds 0, 1, 2: not run." in made.caption and "- NTP, seed 2: not run." in made.caption
    absent = [(row["series"], row["seed"]) for row in made.lines if row["missing"] == "not run" and not row["y"]]
    assert absent == [("NTP", "2"), ("ReMiT", "0"), ("ReMiT", "1"), ("ReMiT", "2")]
    assert "ReMiT: not run" in (made.output / "figure.svg").read_text()


def test_a_speed_up_is_the_geometric_mean_of_the_seeds(tmp_path: Path) -> None:
    """NTP takes 200 tokens; ReMiT is there after 100 and after 50."""
    made = Made(tmp_path, seeds=[0, 1])
    for seed, tokens in ((0, 100), (1, 50)):
        made.train("ntp", seed, [(10, 0.1), (200, 0.4)])
        made.train("remit", seed, [(10, 0.1), (tokens, 0.4), (200, 0.6)])
    reaching = claim(higher="ntp", lower="remit", by="reaching", ratio=True)
    made.draw({"panels": TOKENS, "series": ["ntp", "remit"], "measure": "lab/accuracy", "claims": [reaching]})
    low, high = np.exp(stats.ttest_1samp(np.log([2.0, 4.0]), 0).confidence_interval(0.95))
    assert f"NTP over ReMiT is 2.83 (95 % interval over 2 seeds {low:.2f} to {high:.2f})" in made.caption
    assert f"speed-up 2.83 [{low:.2f}, {high:.2f}]" in (made.output / "figure.svg").read_text()


def test_a_seed_that_never_gets_there_makes_the_speed_up_a_bound(tmp_path: Path) -> None:
    made = Made(tmp_path, seeds=[0, 1])
    for seed, last in ((0, 0.6), (1, 0.3)):
        made.train("ntp", seed, [(10, 0.1), (200, 0.4)])
        made.train("remit", seed, [(10, 0.1), (100, 0.4 if seed == 0 else 0.2), (200, last)])
    reaching = claim(higher="ntp", lower="remit", by="reaching", ratio=True)
    made.draw({"panels": TOKENS, "series": ["ntp", "remit"], "measure": "lab/accuracy", "claims": [reaching]})
    assert "ours does not tell" in made.caption
    assert "NTP over ReMiT is at most 1.41, since 1 of 2 seeds never reach it" in made.caption
    assert "speed-up ≤ 1.41, 1 of 2 never reach it" in (made.output / "figure.svg").read_text()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn from now on, kept before they are saved."""
    kept: list[Any] = []
    monkeypatch.setattr("remit_lit.figures.draw.save", lambda figure, path: kept.append(figure))
    return kept


@pytest.mark.parametrize("over", ["tokens", "stage"])
def test_shares_in_percent_stay_below_a_hundred_as_in_their_table(over: str, drawn: list[Any], tmp_path: Path) -> None:
    made, found = Made(tmp_path), [0.999, 0.5, 0.99]
    for seed, value in enumerate(found):
        made.train("ntp", seed, [(100, 0.2), (200, value)])
        made.measure("ntp", seed, "", value)
    scale = {"scale": 100} if over == "tokens" else {}  # the row of stages has its own
    panels = {"a": {"title": "score", "over": over, **scale}}
    made.draw({"panels": panels, "series": ["ntp"], "measure": "lab/accuracy", "row": "accuracy"})
    [axes] = drawn[0].axes
    assert 99.9 < axes.get_ylim()[1] <= 100
    entries = {("r", "c"): Entry({seed: Metric(np.full(2, value), True) for seed, value in enumerate(found)})}
    table = summarize(Contents("", {"r": Row("r", 100.0)}, {"c": "c"}, None, entries), resamples=20)
    interval = table.cells["r", "c"].interval
    assert interval is not None
    ends = [place[1] for band in axes.collections for path in band.get_paths() for place in path.vertices]
    assert interval.high < 100 and np.isclose(ends, interval.high).any() and np.isclose(ends, interval.low).any()


def test_a_narrow_logarithmic_axis_has_plain_numbers_and_a_title_in_words(drawn: list[Any], tmp_path: Path) -> None:
    made = Made(tmp_path, seeds=[0, 1])
    for seed in (0, 1):
        norms = [(step, 0.71 - 0.001 * step + 0.05 * seed) for step in range(0, 100, 10)]
        made.train("ntp", seed, logged={"metrics.csv": {"train/grad_norm": norms}})
    panels = {"a": {"title": "norms", "over": "step", "measure": "train/grad_norm", "log": True}}
    made.draw({"panels": panels, "series": ["ntp"]})
    [axes] = drawn[0].axes
    drawn[0].canvas.draw()
    low, high = axes.get_ylim()
    shown = [label.get_text() for label in axes.get_yticklabels() if low <= label.get_position()[1] <= high]
    assert len(shown) >= 2 and all(low <= float(text) <= high for text in shown)
    assert not any(label.get_text() for label in axes.get_yticklabels(minor=True))
    assert axes.get_ylabel() == "gradient norm before clipping"
    assert high > 1.0  # a norm is no share, though all of these may be below 1


def test_hours_are_tokens_by_the_runs_throughput(tmp_path: Path) -> None:
    made = Made(tmp_path, seeds=[0])
    made.train("ntp", 0, [(7200, 0.2)], {"metrics.csv": {"tokens_per_second": [(1, 1.0), (2, 2.0), (3, 9.0)]}})
    made.train("remit", 0, [(7200, 0.3)])
    panels = {"a": {"title": "time", "over": "hours"}}
    made.draw({"panels": panels, "series": ["ntp", "remit"], "measure": "lab/accuracy"})
    assert made.points("NTP", 0) == [("1.0", 0.2)]
    assert "ReMiT, seed 0: not recorded" in made.caption


def test_what_was_logged_before_an_interruption_counts_until_it_was_done_again(tmp_path: Path) -> None:
    made = Made(tmp_path, seeds=[0])
    norms = {
        "metrics-1.csv": {"train/grad_norm": [(1, 1.0), (2, 2.0), (3, 3.0)], "train/loss": [(2, 7.0)]},
        "metrics-2.csv": {"train/grad_norm": [(3, 30.0)]},
        "metrics.csv": {"train/grad_norm": [(4, 4.0)]},
    }
    made.train("remit", 0, logged=norms)
    panels = {"a": {"title": "norms", "over": "step", "measure": "train/grad_norm", "log": True}}
    claims = [claim(by="mean", ratio=True)]
    made.draw({"panels": panels, "series": ["ntp", "remit"], "claims": claims})
    assert made.points("ReMiT", 0) == [("1.0", 1.0), ("2.0", 2.0), ("3.0", 30.0), ("4.0", 4.0)]


def test_a_damaged_log_is_told_of_and_the_rest_is_shown(tmp_path: Path) -> None:
    made = Made(tmp_path, seeds=[0])
    for method, text in (("ntp", "1.0"), ("remit", "1.0x")):
        made.train(method, 0, logged={"metrics.csv": {"train/grad_norm": [(1, text)]}})  # type: ignore[list-item]
    panels = {"a": {"title": "norms", "over": "step", "measure": "train/grad_norm"}}
    made.draw({"panels": panels, "series": ["ntp", "remit"]})
    assert made.points("NTP", 0) == [("1.0", 1.0)]
    assert "- ReMiT, seed 0: damaged: " in made.caption and "metrics.csv is no log of a run" in made.caption


def test_gains_are_of_the_same_seed_at_every_stage(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for seed in range(3):
        for stage, base, gain in (("", 0.2, 0.10), ("SFT", 0.5, 0.04), ("RLVR", 0.7, -0.02)):
            made.measure("ntp", seed, stage, base + 0.05 * seed)
            if not (seed == 2 and stage == "RLVR"):
                made.measure("remit", seed, stage, base + 0.05 * seed + gain + 0.001 * seed)
    panels = {"a": {"title": "gain", "over": "stage", "gain": True}}
    claims = [claim(at="SFT", paper="One"), claim(paper="Two")]
    made.draw({"panels": panels, "series": ["ntp", "remit"], "row": "accuracy", "claims": claims})
    gains = [("mid-training", pytest.approx(10.1)), ("SFT", pytest.approx(4.1)), ("RLVR", pytest.approx(-1.9))]
    assert made.points("ReMiT", 1) == gains
    assert made.points("ReMiT", 2) == [("mid-training", pytest.approx(10.2)), ("SFT", pytest.approx(4.2))]
    assert "- One; ours agrees: accuracy, % after SFT, ReMiT less NTP is +4.1" in made.caption
    # The third seed has no model after RLVR, and its SFT model is not taken for one.
    assert "- Two; ours disagrees: accuracy, % after RLVR, ReMiT less NTP is -1.95" in made.caption
    assert "(95 % interval over 2 seeds" in made.caption
    assert "ReMiT, seed 2: not run, after RLVR" in made.caption


def test_a_figure_may_leave_out_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """RLVR straight after mid-training is another job than RLVR after SFT."""
    made = Made(tmp_path, seeds=[0])
    figure = {"panels": STAGES, "series": ["remit"], "row": "accuracy"}
    made.draw(figure, "--dry_run=true")
    whole = capsys.readouterr().out
    made.draw({**figure, "stages": ["RLVR"]}, "--dry_run=true")
    straight = capsys.readouterr().out
    # Of the baseline and ReMiT: a fit, the stages, and an evaluation of each model.
    assert "12 jobs, 12 to run" in whole and "8 jobs, 8 to run" in straight and "SFT" not in straight


def test_a_figure_runs_only_what_it_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Made(tmp_path, seeds=[0])
    made.draw({"panels": TOKENS, "series": ["remit"], "measure": "lab/accuracy"}, "--dry_run=true")
    assert "2 jobs, 2 to run" in capsys.readouterr().out
    panels = {"a": {"title": "t", "over": "log_ratio"}}
    made.draw({"panels": panels, "series": ["base", "remit"]}, "--dry_run=true")
    said = capsys.readouterr().out
    assert "5 jobs" in said and "agreement-base-0" in said and "evaluate" not in said


def test_an_overlay_is_laid_over_every_run(tmp_path: Path) -> None:
    """The same merged config is the same job, and another one is not."""
    made = Made(tmp_path, seeds=[0])
    curves(made, [0.1])
    figure = {"panels": TOKENS, "series": ["ntp", "remit"], "measure": "lab/accuracy"}
    made.draw({**figure, "overlay": [str(tmp_path / "fit.yaml")]})
    assert len(made.lines) == 4 and not any(row["missing"] for row in made.lines)
    made.draw({**figure, "overlay": [str(tmp_path / "curve.yaml")]})
    assert all(row["missing"] == "not run" for row in made.lines)


def test_a_distribution_is_a_density_and_compared_by_its_spread(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for seed in range(3):
        made.compare("base", seed, [2, 3, 3, 2], 0.6)
        made.compare("remit", seed, [0, 4, 5, 1], 0.3 + 0.01 * seed)
    panels = {"a": {"title": "log ratio", "over": "log_ratio"}}
    made.draw(
        {"panels": panels, "series": ["base", "remit"], "claims": [claim(higher="base", lower="remit", by="spread")]}
    )
    density = {-0.75: 0.0, -0.25: 0.8, 0.25: 1.0, 0.75: 0.2}
    assert made.points("ReMiT", 0) == [(str(at), pytest.approx(value)) for at, value in density.items()]
    assert "ours agrees: the standard deviation in nats, Base less ReMiT is +0.29 (" in made.caption


def test_an_agreement_of_an_earlier_version_says_so(tmp_path: Path) -> None:
    made = Made(tmp_path, seeds=[0])
    made.compare("remit", 0, [1, 1], 0.1)
    path = next(made.cells.glob("agreement-*/result/evaluation.json"))
    content = json.loads(path.read_text())
    del content["tasks"]["agreement"]["histograms"]
    path.write_text(json.dumps(content))
    made.draw({"panels": {"a": {"title": "log ratio", "over": "log_ratio"}}, "series": ["remit"]})
    assert "not recorded: agreement-remit-0 is of an earlier version" in made.caption


def test_methods_have_the_tables_colours(tmp_path: Path) -> None:
    """ReMiT is the third of the table beside its baseline, whichever methods are shown."""
    made = Made(tmp_path, seeds=[0])
    curves(made, [0.1])
    drawn = []
    for series in (["ntp", "remit"], ["ntp", "rho1", "remit", "base"]):
        made.draw({"panels": TOKENS, "series": series, "measure": "lab/accuracy"})
        svg = (made.output / "figure.svg").read_text()
        drawn.append(set(re.findall(r"stroke: (#[0-9a-f]{6}); stroke-width: 1.2", svg)))
    assert drawn[0] == drawn[1] == {"#000000", "#009e73"}


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ({"series": ["remti"]}, "figure.series: got 'remti'; give some of base, ntp, rho1, remit"),
        ({"stages": ["DPO"]}, "figure.stages: got 'DPO'; give some of SFT, RLVR"),
        ({"measure": None}, "figure.panels.a.measure: missing; over tokens"),
        ({"panels": STAGES, "row": "acc"}, "figure.panels.a.measure: got 'acc'; over stages give a row: accuracy"),
        ({"panels": {"a": {"title": "t", "over": "tokens", "gain": True}}}, "figure.panels.a.gain: got true"),
        (
            {"claims": [claim(lower="base")]},
            "figure.claims.0.lower: got 'base'; give one of ntp, remit (figure.series)",
        ),
        ({"claims": [claim(panel="b")]}, "figure.claims.0.panel: got 'b'; give one of a"),
        ({"claims": [claim(by="spread")]}, "figure.claims.0.by: got spread"),
        ({"claims": [claim(at="SFT")]}, "figure.claims.0.at: got 'SFT'"),
        ({"panels": STAGES, "row": "accuracy", "claims": [claim(at="DPO")]}, "give one of before mid-training, mid"),
        ({"panels": STAGES, "row": "accuracy", "claims": [claim(by="reaching")]}, "figure.claims.0.by: got reaching"),
    ],
)
def test_what_cannot_be_a_figure_is_refused_by_name(
    figure: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Made(tmp_path, seeds=[0])
    with pytest.raises(SystemExit):
        made.draw({"panels": TOKENS, "series": ["ntp", "remit"], "measure": "lab/accuracy", **figure})
    assert message in capsys.readouterr().err
