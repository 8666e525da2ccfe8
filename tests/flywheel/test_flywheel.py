"""The loop: what each round is trained against, when it stops, and what it leaves."""

import csv
import hashlib
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
from remit_lit.flywheel.flywheel import turn
from remit_lit.flywheel.judging import judge
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
        "control": "ntp",
        "judge": "dev",
        "goes_on_while": "leads",
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
    ("rule", "found", "round_", "better", "why"),
    [
        # What the round before reached does not count: its documents may have been others.
        ("leads", {"ntp_0": 0.9, "ntp_1": 0.5, "remit_1": 0.6}, 1, True, "61 of ReMiT, above the 51 of NTP in the"),
        ("leads", {"ntp_0": 0.2, "ntp_1": 0.6, "remit_1": 0.6}, 1, False, "stops, since"),
        (
            "leads",
            {"ntp_0": 0.2, "ntp_1": 0.6, "remit_1": 0.6},
            1,
            False,
            "61 of ReMiT, not above the 61 of NTP in the",
        ),
        ("leads", {"ntp_1": 0.1, "remit_1": 0.6, "ntp_2": 0.3, "remit_2": 0.4}, 2, True, "41 of ReMiT, above the 31"),
        ("gains", {"ntp_0": 0.9, "ntp_1": 0.5, "remit_1": 0.6}, 1, True, "a lead of +10, above the +0 of the round"),
        ("gains", {"ntp_1": 0.1, "remit_1": 0.6, "ntp_2": 0.3, "remit_2": 0.4}, 2, False, "not above the +50 of the"),
        (
            "gains",
            {"ntp_1": 0.5, "remit_1": 0.6, "ntp_2": 0.2, "remit_2": 0.4},
            2,
            True,
            "a lead of +20, above the +10",
        ),
        ("leads", {"ntp_2": 0.6, "remit_2": None}, 2, False, "remit_2 has no dev at its end: failed: no room"),
        ("leads", {"ntp_2": None, "remit_2": 0.6}, 2, False, "ntp_2 has no dev at its end: failed: no room"),
    ],
)
def test_an_arm_is_judged_against_its_control_of_the_same_round(rule, found, round_, better, why):
    verdict, said = judge(settings(goes_on_while=rule), contents(**found), round_)
    assert verdict is better and why in said


def test_a_verdict_comes_with_the_interval_of_the_lead_by_seed():
    made = contents(ntp_1=0.5, remit_1=0.6)
    changed = {0: Metric(np.array([0.58]), True), 1: Metric(np.array([0.64]), True)}
    entries = {**made.entries, ("dev/rlvr", "remit_1"): Entry(changed)}
    interval = stats.ttest_rel([58, 64], [50, 52]).confidence_interval(0.95)
    _, said = judge(settings(), replace(made, entries=entries), 1)
    assert f"(+10, 95 % interval over seeds {interval.low:+.3g} to {interval.high:+.3g})" in said


def documents_of(made: FlywheelSettings, rounds: int, root: Path) -> dict[tuple[str, int], str]:
    found = {}
    for (method, seed), run in make_plan(made.table(rounds), root).items():
        assert run.fit is not None
        (found[method, seed],) = [a for a in run.fit.arguments if a.startswith("--data.prepare.sources.web")]
    return found


def test_documents_are_the_same_for_all_arms_and_never_those_of_another_round_or_seed(tmp_path):
    """Numbers that are put together from digits, such as {seed}{round}, are not: 1 and 11 is 11 and 1."""
    seeds, rounds = [0, 1, 2, 10, 11, 21, 111, 112], 12
    fields = {"data.prepare.sources.web.init_args.seed": "{documents}"}
    for per_round in (True, False):
        hashed = {"documents": ["seed", "round"] if per_round else ["seed"]}
        found = documents_of(settings(seeds=seeds, hashed=hashed, fields=fields), rounds, tmp_path)
        of_rounds: dict[tuple[int, int], set[str]] = {}
        for (method, seed), argument in found.items():
            of_rounds.setdefault((seed, int(method.split("_")[1])), set()).add(argument)
        assert all(len(arguments) == 1 for arguments in of_rounds.values())
        different = {argument for arguments in of_rounds.values() for argument in arguments}
        assert len(different) == len(seeds) * (rounds + 1 if per_round else 1)


def test_numbers_of_two_names_differ_and_are_the_same_in_every_run():
    made = settings(seeds=[3, 4], hashed={"documents": ["seed"], "base": ["seed"]}).table(1)
    digests = [hashlib.sha256(json.dumps(["documents", ["seed", seed]]).encode()).hexdigest() for seed in (3, 4)]
    assert made.vary["documents"] == [int(digest[:8], 16) // 2 for digest in digests]
    assert not set(made.vary["documents"]) & set(made.vary["base"])


def test_numbers_that_collide_are_refused(monkeypatch):
    monkeypatch.setattr("remit_lit.flywheel.numbers._BITS", 2)
    with pytest.raises(
        ConfigError, match=r"hashed: documents \(seed \d\) and documents \(seed \d\) have the same number"
    ):
        settings(seeds=[0, 1, 2, 3, 4], hashed={"documents": ["seed"]}).table(1)


def test_a_control_on_other_documents_is_refused(tmp_path):
    arms = settings().arms
    arms["ntp"].fields["data.prepare.sources.web.init_args.documents"] = 7
    config = settings(arms=arms)
    with pytest.raises(ConfigError, match="control: got 'ntp', which is not trained on the rows of remit"):
        turn(config, 1, str(tmp_path), 1, dry_run=True)


def test_the_labs_flywheel_has_one_set_of_documents_and_a_control_on_it(tmp_path, capsys):
    config = "experiments/lab/flywheel.yaml"
    main(["flywheel", f"--config={config}", "--rounds=2", f"--cells={tmp_path}", "--dry_run=true"])
    said = capsys.readouterr().out
    assert "rule: goes on while the RL-tuned model of ReMiT is above that of NTP in the same round" in said
    # Of an arm: training, three stages, four evaluations. Those that need no reference are the same in every round.
    base, arm = 1, 1 + 3 + 4
    assert f"{3 * (base + 2 * arm + 2 * arm)} jobs" in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": {}}, "stages: got none"),
        ({"first": "base"}, "first: got 'base'; give one of ntp, remit"),
        ({"judged": "base"}, "judged: got 'base'"),
        ({"control": "base"}, "control: got 'base'; give one of ntp, remit"),
        ({"control": "remit"}, "control: got 'remit', which is judged; give another arm"),
        ({"judge": "accuracy"}, "judge: got 'accuracy'; give a row of dev problems: dev"),
    ],
)
def test_what_cannot_go_round_is_refused_by_name(changes, message):
    with pytest.raises(ConfigError, match=message):
        settings(**changes).check()


@pytest.mark.usefixtures("warm_jobs")
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
    table = (tmp_path / "out" / "table.md").read_text()
    assert "round 1: accuracy, after sft" in table and "rule: goes on while" in said
    assert "The rule: goes on while the RL-tuned model of ReMiT is above" in table
    # Round 0 made the reference: four steps of two rows, and two steps of 32 problems.
    with open(tmp_path / "out" / "seeds.csv", newline="") as stream:
        found = {(line["row"], line["column"]): line["value"] for line in csv.DictReader(stream)}
    for round_, arm, times in ((0, "ntp", 1), (1, "ntp", 1), (1, "remit", 2)):
        assert float(found[f"{round_}/spent_tokens", arm]) == times * 4 * 2 * 132
        assert float(found[f"{round_}/spent_samples", arm]) == times * 2 * 32
    assert (tmp_path / "out" / "rounds.png").stat().st_size > 0
