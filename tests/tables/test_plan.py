"""From a table's YAML to jobs."""

from pathlib import Path
from typing import Any

import pytest

from remit_lit.errors import ConfigError
from remit_lit.jobs.job import Job, with_inputs
from remit_lit.models.spec import ModelSpec
from remit_lit.tables.plan import Run, make_plan
from remit_lit.tables.settings import Method, Primary, RowSettings, Step, TableSettings

ROWS = {"a": RowSettings("accuracy", task="lab", metric="accuracy")}
FIT = "experiments/quickstart.yaml"


def settings(**changes: Any) -> TableSettings:
    given: dict[str, Any] = {
        "title": "a table",
        "methods": {
            "base": Method("Base", model="lab/base"),
            "ntp": Method("NTP", ["baselines/ntp.yaml"]),
            "remit": Method(
                "ReMiT", ["baselines/remit.yaml"], {"model.reference.init_args.model.path": "{rl}/model"}, ["rl"]
            ),
        },
        "rows": ROWS,
        "output": "out",
        "experiment": [FIT],
        "seeds": [0, 1],
        "before": {"rl": Step("posttrain", [], {"model.path": "{ntp}/model", "seed": "{seed}"}, ["ntp"])},
        "fields": {"seed_everything": "{seed}"},
        "evaluate": {"tasks": ["lab"]},
        "baseline": "ntp",
    }
    return TableSettings(**{**given, **changes})


def fit_of(run: Run) -> Job:
    assert run.fit is not None
    return run.fit


def test_methods_need_steps_and_steps_need_methods(tmp_path):
    plan = make_plan(settings(), tmp_path)
    assert set(plan) == {(method, seed) for method in ("base", "ntp", "remit") for seed in (0, 1)}
    remit = fit_of(plan["remit", 1])
    reference = remit.inputs["rl"]
    assert reference.inputs["ntp"].key == fit_of(plan["ntp", 1]).key != fit_of(plan["ntp", 0]).key
    assert f"--model.reference.init_args.model.path={reference.result}/model" in remit.arguments
    assert plan["base", 0].fit is None
    names = [job.name for job in with_inputs(job for run in plan.values() for job in run.jobs)]
    # Nothing of the base depends on a seed, so it is evaluated once.
    assert sorted(names) == sorted(
        ["evaluate-base-0"]
        + [f"{p}-{s}" for s in (0, 1) for p in ("ntp", "rl", "remit", "evaluate-ntp", "evaluate-remit")]
    )


def test_every_model_goes_through_the_stages_in_order(tmp_path):
    stages = {"sft": Step("posttrain", ["a.yaml"]), "rlvr": Step("posttrain", [], {"seed": "{seed}", "x": "{model}"})}
    for path in ("a.yaml",):
        (tmp_path / path).write_text("stage: SFT\n")
    stages["sft"].configs = [str(tmp_path / "a.yaml")]
    plan = make_plan(settings(stages=stages), tmp_path)
    run = plan["ntp", 1]
    sft, rlvr = run.stages["sft"], run.stages["rlvr"]
    assert f"--model.path={fit_of(run).result}/model" in sft.arguments
    assert {f"--model.path={sft.result}/model", f"--x={sft.result}/model", "--seed=1"} <= set(rlvr.arguments)
    assert f"--model.path={rlvr.result}/model" in run.evaluations["rlvr", "evaluate"].arguments
    assert "--model.path=lab/base" in plan["base", 0].stages["sft"].arguments
    assert list(run.evaluations) == [("", "evaluate"), ("sft", "evaluate"), ("rlvr", "evaluate")]


def test_a_model_that_is_there_already_has_its_revision_wherever_it_is_loaded(tmp_path):
    """In its evaluation and at the start of its first stage; later stages have models of their own."""
    given = ModelSpec("allenai/OLMo-2-0425-1B", revision="stage1-step1907359-tokens4001B", tokenizer="org/tokenizer")
    methods = {"before": Method("Before", model=given), "main": Method("Main", model="allenai/OLMo-2-0425-1B")}
    stages = {"sft": Step("posttrain", [], {"a": "{model}"}), "rlvr": Step("posttrain")}
    changes = {"methods": methods, "baseline": None, "stages": stages, "before": {}}
    plan = make_plan(settings(agreement={"rows": "rows"}, **changes), tmp_path)
    run = plan["before", 0]
    named = {
        "--model.path=allenai/OLMo-2-0425-1B",
        "--model.revision=stage1-step1907359-tokens4001B",
        "--model.tokenizer=org/tokenizer",
    }
    for job in (run.evaluations["", "evaluate"], run.evaluations["", "agreement"], run.stages["sft"]):
        assert {argument for argument in job.arguments if argument.startswith("--model.")} == named
    assert "--a=allenai/OLMo-2-0425-1B" in run.stages["sft"].arguments
    assert not any("revision" in argument for argument in run.stages["rlvr"].arguments)
    assert not any("revision" in argument for argument in plan["main", 0].evaluations["", "evaluate"].arguments)
    assert run.evaluations["", "evaluate"].key != plan["main", 0].evaluations["", "evaluate"].key


def test_a_method_that_is_not_to_be_had_has_no_jobs(tmp_path):
    methods = {**settings().methods, "secret": Method("Secret", unavailable="its weights are not public")}
    plan = make_plan(settings(methods=methods, stages={"sft": Step("posttrain")}), tmp_path)
    assert plan["secret", 0].jobs == [] and plan["ntp", 0].jobs


def test_methods_with_the_same_documents_share_their_rows(tmp_path):
    more = Method("More", ["baselines/ntp.yaml", "experiments/lab/more_tokens.yaml"])
    seeds = {"fields": {"data.prepare.seed": "{seed}"}}
    plan = make_plan(settings(methods={**settings().methods, "more": more}, **seeds), tmp_path)
    rows = {name: fit_of(plan[name]).places["rows"] for name in plan if name[0] != "base"}
    assert rows["ntp", 0] == rows["remit", 0] != rows["ntp", 1]
    assert rows["more", 0] != rows["ntp", 0]


def test_rows_lie_where_the_configs_say_unless_a_field_makes_others(tmp_path):
    """A user's own rows, and the columns of scores beside them, are not made a second time."""
    more = Method("More", ["baselines/ntp.yaml", "experiments/lab/more_tokens.yaml"])
    methods = {**settings().methods, "more": more, "remit": Method("ReMiT", ["baselines/remit.yaml"])}
    changes: dict[str, Any] = {"methods": methods, "before": {}}
    plan = make_plan(settings(**changes), tmp_path)
    for name, rows in (("ntp", "rows"), ("remit", "rows"), ("more", "rows-more-tokens")):
        fit = fit_of(plan[name, 0])
        assert fit.places == {} and fit.recipe["fields"]["data.rows"] == f".cache/lab/{rows}"
        assert not any(argument.startswith("--data.rows") for argument in fit.arguments)
    (tmp_path / "rows.yaml").write_text("data: {rows: my/rows, prepare: null}\n")
    own = make_plan(settings(**changes, experiment=[FIT, str(tmp_path / "rows.yaml")]), tmp_path)
    assert fit_of(own["ntp", 0]).recipe["fields"]["data.rows"] == "my/rows"
    other = make_plan(settings(**changes, fields={"data.prepare.seed": "{seed}"}), tmp_path)
    assert fit_of(other["ntp", 0]).places["rows"].startswith(str(tmp_path / "rows"))


def test_rows_that_depend_on_a_step_are_not_shared_by_seeds(tmp_path):
    base = {"base": Step("fit", [FIT], {"seed_everything": "{seed}"})}
    fields = {"data.prepare.tokenizer": "{base}/model"}
    methods = {"ntp": Method("NTP", ["baselines/ntp.yaml"])}
    plan = make_plan(settings(methods=methods, before=base, fields=fields, inputs=["base"]), tmp_path)
    assert fit_of(plan["ntp", 0]).places["rows"] != fit_of(plan["ntp", 1]).places["rows"]


def test_what_takes_as_long_is_of_one_kind(tmp_path):
    plan = make_plan(settings(), tmp_path)
    kinds = {
        name: (fit_of(plan[name]).kind, plan[name].evaluations["", "evaluate"].kind)
        for name in plan
        if name[0] != "base"
    }
    assert kinds["ntp", 0] == kinds["ntp", 1] and kinds["ntp", 0][0] != kinds["remit", 0][0]
    assert len({evaluated for _, evaluated in kinds.values()}) == 1


def test_values_that_vary_go_with_the_seeds(tmp_path):
    plan = make_plan(settings(vary={"d": [7, 9]}, fields={"data.seed": "{d}"}), tmp_path)
    assert [fit_of(plan["ntp", seed]).fields["data.seed"] for seed in (0, 1)] == ["7", "9"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "each seed once"),
        ({"baseline": "nt"}, "baseline: got 'nt'; did you mean ntp\\? give one of base, ntp, remit"),
        ({"vary": {"d": [1]}}, "vary.d: got 1 values for 2 seeds"),
        ({"vary": {"ntp": [1, 2]}}, "ntp named twice"),
        ({"before": {"rl": Step("train")}}, "before.rl.verb: got 'train'"),
        ({"rows": {"a": RowSettings("x")}}, "rows.a: got none"),
        (
            {"rows": {"a": RowSettings("x", task="lab", metric="m", cost="tokens")}},
            "exactly one of task, progress, mean_of, cost, curve",
        ),
        (
            {"rows": {**ROWS, "m": RowSettings("x", mean_of=["a", "b"])}},
            r"rows.m.mean_of: got \['a', 'b'\]; give some of a",
        ),
        ({"rows": {**ROWS, "m": RowSettings("x", mean_of=[])}}, "rows.m.mean_of: got"),
        ({"rows": {"a": RowSettings("x", task="lab")}}, "rows.a.metric: missing"),
        (
            {"rows": {"a": RowSettings("x", progress="pass@1")}},
            "rows.a.progress: got 'pass@1', but the table",
        ),
        ({"stages": {"sft": Step("train")}}, "stages.sft.verb: got 'train'"),
        ({"evaluate": None}, "evaluate: missing, and rows.a.task is 'lab'"),
        ({"rows": {"a": RowSettings("x", task="agreement", metric="kl")}}, "agreement: missing, and rows.a.task"),
        ({"rows": {"a": RowSettings("x", curve="lab/accuracy")}, "baseline": None}, "rows.a.reaches: missing"),
        (
            {"rows": {"a": RowSettings("x", curve="a", reaches=1.0, speed_up=True)}, "baseline": None},
            "rows.a.speed_up: got true, but there is no baseline",
        ),
        (
            {"rows": {"a": RowSettings("x", cost="throughput_lost")}, "baseline": None},
            "rows.a.cost: got throughput_lost, but there is no baseline",
        ),
        ({"rows": {"a": RowSettings("x", cost="tokens", speed_up=True)}}, "rows.a.speed_up: got true without a curve"),
        ({"methods": {"re-mit": Method("ReMiT")}, "baseline": None}, "got 're-mit'; use letters, digits"),
        (
            {"methods": {"a": Method("A", model=ModelSpec(revision="x"))}, "baseline": None},
            "methods.a.model.path: missing",
        ),
        ({"methods": {"a": Method("A", model="m", unavailable="x")}, "baseline": None}, "methods.a.unavailable: got a"),
        ({"primary": Primary("a", "base", "remit")}, "primary.control: got 'remit'; give one of ntp"),
        ({"primary": Primary("a", "ntp", "ntp")}, "primary.method: got 'ntp'; give one of base, remit"),
        ({"primary": Primary("b", "remit", "ntp")}, "primary.row: got 'b'; give one of a"),
        ({"primary": Primary("a", "remit", "ntp", sd=0.0)}, "primary.sd: got 0.0; give a number above 0"),
        ({"stages": {"a": Step("fit")}, "before": {"ntp_a": Step("fit")}}, "ntp_a named twice"),
        ({"methods": {"a": Method("A"), "b": Method("A")}, "baseline": "a"}, "a title of its own"),
    ],
)
def test_what_cannot_be_a_table_is_refused_by_name(changes, message):
    with pytest.raises(ConfigError, match=message):
        settings(**changes).check()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": ["bsae"]}, "ntp.inputs: got 'bsae'; did you mean base\\? give some of rl, base, ntp, remit"),
        ({"inputs": ["rl"]}, "ntp -> rl -> ntp need each other"),
        ({"experiment": []}, "data.rows: .* say neither where rows are nor how they are made"),
        ({"experiment": ["none.yaml"]}, "none.yaml"),
    ],
)
def test_a_plan_that_cannot_be_made_is_refused_by_name(changes, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        make_plan(settings(**changes), tmp_path)


def test_braces_that_are_no_declared_input_are_text(tmp_path: Path):
    """Even where a step has that name: what a job needs is declared, not read out of its strings."""
    prompt = '{"answer": "{rl}"}, {seed} of {ntp}'
    method = Method("NTP", ["baselines/ntp.yaml"], {"note": prompt})
    plan = make_plan(settings(methods={"ntp": method}, evaluate={"tasks": ["lab"], "note": "{rl}"}), tmp_path)
    run = plan["ntp", 1]
    assert fit_of(run).inputs == {}
    assert "--note=" + prompt.replace("{seed}", "1") in fit_of(run).arguments
    assert list(run.evaluations["", "evaluate"].inputs) == ["ntp"]
    assert "--note={rl}" in run.evaluations["", "evaluate"].arguments


def test_an_evaluation_declares_its_inputs(tmp_path: Path):
    agreement = {"inputs": ["rl"], "rows": "rows", "reference.path": "{rl}/model"}
    job = make_plan(settings(agreement=agreement), tmp_path)["remit", 0].evaluations["", "agreement"]
    assert list(job.inputs) == ["remit", "rl"]
    assert f"--reference.path={job.inputs['rl'].result}/model" in job.arguments
    assert not any(argument.startswith("--inputs") for argument in job.arguments)


def test_the_same_work_is_one_job_whatever_it_is_called(tmp_path: Path):
    twice = {name: Method(name, ["baselines/ntp.yaml"]) for name in ("one", "two")}
    plan = make_plan(settings(methods=twice, baseline="one", before={}), tmp_path)
    assert len(with_inputs(job for run in plan.values() for job in run.jobs)) == 4
