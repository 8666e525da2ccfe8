"""Every table and flywheel of the repository can be planned, and the paper's table shows what was published."""

import csv
import json
import re
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from remit_lit.cli.dispatch import main
from tests.processes import ROOT, documented_commands

SWEEP = ("wrong_0", "wrong_25", "wrong_75", "clean_reference")
TABLES = sorted(
    [str(path.relative_to(ROOT)) for path in (ROOT / "experiments" / "tables").glob("*.yaml")]
    + [f"experiments/tables/corruption/{name}.yaml" for name in SWEEP]
)

UNPUBLISHED = ("youtu_llm_2b", "paper")
"""Tables whose learning rate the user must give: it is not published. The second lists the first."""


def _is_of_the_lab(config: str) -> bool:
    """Whether it builds on the lab's pipeline."""
    base = yaml.safe_load((ROOT / config).read_text()).get("extends", "")
    return base == "experiments/lab/pipeline.yaml" or (base != "" and _is_of_the_lab(base))


@pytest.mark.parametrize("config", TABLES)
def test_every_table_can_be_planned(config, tmp_path, monkeypatch, capsys, no_weights):
    monkeypatch.chdir(ROOT)
    arguments = ["table", f"--config={config}", f"--cells={tmp_path}", "--dry_run=true"]
    if Path(config).stem in UNPUBLISHED:
        with pytest.raises(SystemExit):
            main(arguments)
    else:
        main(arguments)
    said = capsys.readouterr()
    assert re.search(r"(\d+) jobs, \1 to run", said.out)
    assert ("ntp-0: model.optimizer: missing" in said.err) == (Path(config).stem in UNPUBLISHED)
    assert config in (ROOT / config).read_text()  # the command that its comment gives
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [*documented_commands("table"), *documented_commands("flywheel")], ids=" ".join)
def test_the_commands_of_the_documentation_can_be_planned(command, tmp_path, monkeypatch, capsys, no_weights):
    monkeypatch.chdir(ROOT)
    # Their fields are read where each table is planned.
    unread = ["--run=false"] if command[0] == "table" else []
    main([*command, f"--cells={tmp_path}", "--dry_run=true", *unread])
    assert " to run: " in capsys.readouterr().out


@pytest.mark.parametrize("config", [config for config in TABLES if _is_of_the_lab(config)])
def test_a_run_of_the_lab_starts_from_its_block_on_documents_of_its_own(config, tmp_path, monkeypatch, no_weights):
    monkeypatch.chdir(ROOT)
    main(["table", f"--config={config}", f"--cells={tmp_path}/cells", f"--output={tmp_path}/out", "--run=false"])
    listed = json.loads((tmp_path / "out" / "record.json").read_text())["jobs"]
    jobs = {job["name"]: job for job in listed}
    methods = [name for name in yaml.safe_load((ROOT / config).read_text())["methods"] if f"{name}-11" in jobs]
    assert methods
    for name, job in jobs.items():
        method, _, seed = name.rpartition("-")
        if method in methods:
            base = f"base-{seed[0]}1"
            assert f"--model.policy.path={jobs[base]['result']}/model" in job["command"], name
            for source in ("web", "noise", "correct", "wrong"):
                given = re.search(rf"sources\.{source}\.init_args\.seed=(\d+)", job["command"])
                assert given and given[1].endswith(seed), (name, source)


def test_a_table_may_extend_one_that_extends_another(tmp_path, monkeypatch, capsys, no_weights):
    monkeypatch.chdir(ROOT)
    smaller = "extends: experiments/tables/epsilon.yaml\nseeds: [11]\nvary: {base_seed: [1], order: [1]}\n"
    (tmp_path / "b.yaml").write_text(smaller)
    (tmp_path / "c.yaml").write_text(f"extends: {tmp_path}/b.yaml\ntitle: a smaller one\n")
    arguments = ["table", f"--config={tmp_path}/c.yaml", f"--cells={tmp_path}/cells", "--dry_run=true"]
    main(arguments)
    # A base, its mid-training, an SFT and a reference; six methods, which measure themselves.
    assert "10 jobs, 10 to run" in capsys.readouterr().out
    (tmp_path / "b.yaml").write_text(f"extends: {tmp_path}/c.yaml\n")
    with pytest.raises(SystemExit):
        main(arguments)
    assert "extend each other in a circle" in capsys.readouterr().err


def test_a_soup_is_made_of_the_runs_of_the_labs_table(tmp_path, monkeypatch, capsys, no_weights):
    """Its second run of base 1 is that of seed 12, by its key, and no run is in two soups."""
    monkeypatch.chdir(ROOT)
    jobs = {}
    for table in ("soup", "lab"):
        arguments = [f"--cells={tmp_path}/cells", f"--output={tmp_path}/{table}", "--run=false"]
        main(["table", f"--config=experiments/tables/{table}.yaml", *arguments])
        listed = json.loads((tmp_path / table / "record.json").read_text())["jobs"]
        jobs[table] = {job["name"]: job for job in listed}
    soups = {name: job for name, job in jobs["soup"].items() if "_mean-" in name}
    assert len(soups) == 2 * 8
    used = [key for soup in soups.values() for key in soup["inputs"].values()]
    for method in ("ntp", "remit"):
        of_lab = {job["key"] for name, job in jobs["lab"].items() if name.startswith(f"{method}-")}
        assert len(of_lab) == 24
        assert sorted(of_lab) == sorted(key for key in used if key in of_lab)
    assert len(set(used)) == len(used) == 48
    assert soups["remit_mean-11"]["inputs"]["remit_3"] == jobs["lab"]["remit-13"]["key"]
    evaluated = jobs["soup"]["evaluate-remit_soup-11"]
    assert list(evaluated["inputs"].values()) == [soups["remit_mean-11"]["key"]]


def test_a_class_in_a_tables_fields_stays_what_the_file_says(tmp_path, monkeypatch, capsys, no_weights):
    """A strategy named by its full path, whose model no plan may build."""
    monkeypatch.chdir(ROOT)
    weighting = "{class_path: remit_lit.weighting.ReMiT, init_args: {epsilon: 0.3}}"
    (tmp_path / "c.yaml").write_text(
        "extends: experiments/tables/epsilon.yaml\nseeds: [11]\nvary: {base_seed: [1], order: [1]}\n"
        f"methods:\n  ntp: {{title: NTP, configs: [baselines/ntp.yaml]}}\n"
        f"  e02: {{title: own, fields: {{model.weighting: {weighting}}}}}\n"
    )
    main(["table", f"--config={tmp_path}/c.yaml", f"--cells={tmp_path}/cells", f"--output={tmp_path}/o", "--run=false"])
    own = next(
        job for job in json.loads((tmp_path / "o" / "record.json").read_text())["jobs"] if job["name"] == "e02-11"
    )
    assert own["recipe"]["fields"]["model.weighting"] == yaml.safe_load(weighting)


def test_the_flywheel_can_be_planned(tmp_path, monkeypatch, capsys, no_weights):
    monkeypatch.chdir(ROOT)
    arguments = ["flywheel", "--config=experiments/lab/flywheel.yaml", f"--cells={tmp_path}", "--dry_run=true"]
    main([*arguments, "--rounds=1"])
    one = int(re.findall(r"(\d+) jobs", capsys.readouterr().out)[0])
    main([*arguments, "--rounds=3"])
    three = int(re.findall(r"(\d+) jobs", capsys.readouterr().out)[0])
    # Of 3 seeds: a base; and of an arm the run, three stages, and evaluations of its four models. The two arms
    # without a reference are the same in every round, and round 0 is one of them.
    assert one == 3 * (1 + 8 * (2 + 1)) and three == 3 * (1 + 8 * (2 + 3))


def test_every_table_that_tests_something_says_beforehand_what_it_is_made_for():
    for config in TABLES:
        table = yaml.safe_load((ROOT / config).read_text())
        if "corruption" in config:
            table = {**yaml.safe_load((ROOT / table["extends"]).read_text()), **table}
        compares = table.get("baseline") and "dynamics" not in config  # distances, which are neither better nor worse
        assert ("primary" in table) == bool(compares), config
        if compares:
            assert table["primary"]["control"] == table["baseline"]


FAMILIES = ("olmo2_1b", "smollm3_3b", "youtu_llm_2b")


def test_one_command_shows_what_was_published_of_three_families_and_that_ours_were_not_run(
    tmp_path, monkeypatch, capsys, no_weights
):
    """From any directory: the tables and their published figures come with the package."""
    monkeypatch.chdir(tmp_path)
    main(["table", "--config=tables/paper", "--run=false"])
    said = " ".join(capsys.readouterr().out.split())
    for title in ("OLMo 2 1B", "SmolLM3 3B", "Youtu-LLM 2B"):
        assert title in said
    published = yaml.safe_load((ROOT / "baselines" / "results.yaml").read_text())
    for family in FAMILIES:
        with open(tmp_path / "runs" / "tables" / family / "cells.csv", newline="") as stream:
            lines = list(csv.DictReader(stream))
        assert lines and all(not line["mean"] for line in lines)
        assert all(line["missing"] for line in lines)
        found = {(line["row"], line["column"]): line["published"] for line in lines if line["published"]}
        figures = {
            (row, method): value
            for method, values in published["families"][family].items()
            for row, value in zip(published["benchmarks"], values, strict=True)
        }
        claimed = {
            (row, method): value
            for method, values in published["claims"][family].items()
            for row, value in values.items()
            if row == "throughput_lost"
        }
        assert {place: float(value) for place, value in found.items()} == {**figures, **claimed}


@pytest.mark.parametrize("family", FAMILIES)
def test_pre_trained_is_the_model_that_mid_training_starts_from(family, monkeypatch):
    """The main revision of a published base may be the model after mid-training."""
    monkeypatch.chdir(ROOT)
    table = yaml.safe_load((ROOT / "experiments" / "tables" / f"{family}.yaml").read_text())
    policy = yaml.safe_load((ROOT / "experiments" / f"{family}.yaml").read_text())["model"]["policy"]
    pre_trained = table["methods"]["pre_trained"]
    if "revision" not in policy:
        assert "model" not in pre_trained and "not public" in pre_trained["unavailable"]
    else:
        named = {name: policy[name] for name in ("path", "revision", "tokenizer") if name in policy}
        assert pre_trained["model"] == named


def test_olmos_pre_trained_column_is_of_the_last_checkpoint_of_stage_1():
    table = yaml.safe_load((ROOT / "experiments" / "tables" / "olmo2_1b.yaml").read_text())
    assert table["methods"]["pre_trained"]["model"]["revision"] == "stage1-step1907359-tokens4001B"
    assert table["seeds"] == [42, 666, 42069]


def test_the_papers_rows_are_what_its_figures_are_multiples_of(monkeypatch):
    """TruthfulQA's MC1 has 817 questions, IFEval 834 instructions, GPQA main 448 questions."""
    rows = yaml.safe_load((ROOT / "experiments" / "tables" / "common" / "paper.yaml").read_text())["rows"]
    measured = {name: (row["task"], row["metric"]) for name, row in rows.items() if "task" in row}
    assert measured["truthfulqa"] == ("truthfulqa_mc1", "acc")
    assert measured["triviaqa"] == ("triviaqa", "exact_match")
    assert measured["ifeval"] == ("ifeval", "inst_level_strict_acc")
    assert measured["ifeval_loose"] == ("ifeval", "inst_level_loose_acc")
    assert measured["gpqa"] == ("gpqa_main_n_shot", "acc")
    published = yaml.safe_load((ROOT / "baselines" / "results.yaml").read_text())["benchmarks"]
    assert rows["average"]["mean_of"] == published[:-1] and published[-1] == "average"


@pytest.mark.parametrize("change", ["--output=x", "--title=x", "--tables=[a.yaml]"])
def test_a_list_of_tables_takes_no_field_of_a_single_one(change, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["table", "--config=tables/paper", "--run=false", change])
    said = capsys.readouterr().err
    assert change.split("=")[0].removeprefix("--") in said and "tables" in said


def test_a_list_of_tables_is_a_file_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["table", "--config=tables/lab", "--run=false", "--tables=[tables/lab]"])
    assert "tables: got a list on the command line" in capsys.readouterr().err
    (tmp_path / "both.yaml").write_text("tables: [tables/lab]\ntitle: x\n")
    with pytest.raises(SystemExit):
        main(["table", "--config=both.yaml", "--run=false"])
    assert "both.yaml" in capsys.readouterr().err
    (tmp_path / "wrong.yaml").write_text("tables: [tables/lba]\n")
    with pytest.raises(SystemExit):
        main(["table", "--config=wrong.yaml", "--run=false"])
    assert "tables: no file 'tables/lba'" in capsys.readouterr().err
