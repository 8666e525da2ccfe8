"""The loop: what each round is trained against, when it stops, and what it leaves."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from remit_lit.cli.dispatch import main
from remit_lit.errors import ConfigError
from remit_lit.evaluation.results import Metric
from remit_lit.flywheel.flywheel import judge
from remit_lit.flywheel.settings import Arm, FlywheelSettings
from remit_lit.tables.contents import Contents, Entry, Row
from remit_lit.tables.plan import make_plan
from remit_lit.tables.settings import RowSettings, Step

DEV = RowSettings("pass@1", progress="pass@1", scale=100)


def settings(**changes: Any) -> FlywheelSettings:
    given: dict[str, Any] = {
        "title": "a flywheel",
        "experiment": ["experiments/quickstart.yaml"],
        "arms": {
            "ntp": Arm("NTP", ["baselines/ntp.yaml"]),
            "remit": Arm(
                "ReMiT", fields={"model.reference.init_args.model.path": "{reference}/model"}, inputs=["reference"]
            ),
        },
        "stages": {"sft": Step("posttrain"), "rlvr": Step("posttrain", [], {"seed": "{seed}"})},
        "rows": {"dev": DEV},
        "first": "ntp",
        "judged": "remit",
        "judge": "dev",
        "output": "out",
        "fields": {"data.seed": "{seed}{round}"},
    }
    return FlywheelSettings(**{**given, **changes})


def test_each_round_is_trained_against_the_rl_tuned_model_of_the_one_before(tmp_path):
    plan = make_plan(settings().table(2), tmp_path)
    assert [method for method, _ in plan] == ["ntp_0", "ntp_1", "remit_1", "ntp_2", "remit_2"]
    for method, before in (("remit_1", "ntp_0"), ("remit_2", "remit_1")):
        fit = plan[method, 0].fit
        assert fit is not None
        reference = plan[before, 0].stages["rlvr"]
        assert f"--model.reference.init_args.model.path={reference.result}/model" in fit.arguments
        assert f"--data.seed=0{method[-1]}" in fit.arguments
        # From the same base: nothing of the round before but its reference.
        assert [cell.key for cell in fit.inputs.values()] == [reference.key]
    ntp = plan["ntp_2", 0].fit
    assert ntp is not None and not ntp.inputs


def contents(**means: float | None) -> Contents:
    entries = {
        ("dev/rlvr", name): Entry(missing={0: "failed: no room"})
        if mean is None
        else Entry({seed: Metric(np.array([mean + step]), True) for seed, step in ((0, 0.0), (1, 0.02))})
        for name, mean in means.items()
    }
    return Contents("", {"dev/rlvr": Row("dev")}, {name: name for name in means}, None, entries)


@pytest.mark.parametrize(
    ("found", "round_", "better", "why"),
    [
        ({"ntp_0": 0.5, "remit_1": 0.6}, 1, True, "is 61, above the 51 of the round before"),
        ({"ntp_0": 0.5, "remit_1": 0.5}, 1, False, "stops, since pass@1 of the RL-tuned model is 51, not above the 51"),
        ({"remit_1": 0.6, "remit_2": 0.4}, 2, False, "is 41, not above the 61"),
        ({"remit_1": 0.6, "remit_2": None}, 2, False, "remit_2 has no dev at its end: failed: no room"),
    ],
)
def test_it_goes_on_while_the_rl_tuned_model_becomes_better(found, round_, better, why):
    verdict, said = judge(settings(), contents(**found), round_)
    assert verdict is better and why in said


def test_a_verdict_comes_with_the_interval_of_what_changed():
    made = contents(ntp_0=0.5, remit_1=0.6)
    changed = {0: Metric(np.array([0.58]), True), 1: Metric(np.array([0.64]), True)}
    entries = {**made.entries, ("dev/rlvr", "remit_1"): Entry(changed)}
    interval = stats.ttest_rel([58, 64], [50, 52]).confidence_interval(0.95)
    _, said = judge(settings(), replace(made, entries=entries), 1)
    assert f"(+10, 95 % interval over seeds {interval.low:+.3g} to {interval.high:+.3g})" in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": {}}, "stages: got none"),
        ({"first": "base"}, "first: got 'base'; give one of ntp, remit"),
        ({"judged": "base"}, "judged: got 'base'"),
        ({"judge": "accuracy"}, "judge: got 'accuracy'; give a row of dev problems: dev"),
    ],
)
def test_what_cannot_go_round_is_refused_by_name(changes, message):
    with pytest.raises(ConfigError, match=message):
        settings(**changes).check()


def test_a_round_that_makes_nothing_better_is_the_last(config: Path, tmp_path: Path, capsys):
    """Random models learn nothing in four steps."""
    main(["flywheel", f"--config={config}", "--rounds=3", "--jobs=2", f"--cells={tmp_path / 'cells'}"])
    said = capsys.readouterr().out
    assert "failed" not in said
    assert "round 1: stops, since pass@1 of the RL-tuned model is" in said and "round 2" not in said
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    cells = {job["name"]: job for job in record["jobs"]}
    assert cells["remit_1-0"]["inputs"] == {"ntp_0_sft": cells["ntp_0_sft-0"]["key"]}
    assert all(cell["state"] == "done" for cell in cells.values())
    assert "round 1: accuracy, after sft" in (tmp_path / "out" / "table.md").read_text()
    assert (tmp_path / "out" / "rounds.png").stat().st_size > 0
