"""The verb: its file, its table, what it takes for a model, and what it refuses."""

import io
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml  # type: ignore[import-untyped]
from rich.console import Console
from safetensors.torch import load_file, save_file

from remit_lit.cli.dispatch import main
from remit_lit.errors import ConfigError, DataError
from remit_lit.evaluation.evaluate import evaluate
from remit_lit.evaluation.report import not_run, results_table, standard_error
from remit_lit.evaluation.results import Evaluation, Metric, TaskResult
from remit_lit.models.spec import ModelSpec
from tests.processes import ROOT


def run(model: str | Path, output: Path, tasks: list[str] | None = None, **options: Any) -> Evaluation:
    settings: dict[str, Any] = {"limit": 20, "accelerator": "cpu", **options}
    return Evaluation.read(evaluate(ModelSpec(str(model)), tasks or ["lab"], str(output), **settings))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return run("lab/base", tmp_path_factory.mktemp("evaluate") / "base.json")


def test_the_file_says_where_the_figures_come_from(found: Evaluation) -> None:
    facts = found.facts
    assert facts["model"]["path"] == "lab/base" and len(facts["model"]["weights_hash"]) == 32
    assert facts["settings"]["tasks"] == ["lab"] and facts["settings"]["limit"] == 20
    assert facts["versions"]["lm_eval"] and facts["seconds"] > 0
    assert len(found.tasks["lab"].items) == len(found.tasks["lab"].metrics["accuracy"].outcomes) == 20


def test_the_file_is_read_back_as_it_was_written(found: Evaluation, tmp_path: Path) -> None:
    found.write(tmp_path / "again.json")
    again = Evaluation.read(tmp_path / "again.json")
    assert again.facts == found.facts and again.tasks["lab"].items == found.tasks["lab"].items
    for name, metric in found.tasks["lab"].metrics.items():
        other = again.tasks["lab"].metrics[name]
        assert np.array_equal(metric.outcomes, other.outcomes) and metric.value == other.value


@pytest.mark.parametrize("text", ["", '{"facts": {}', '{"facts": {}, "tasks": {"lab": {}}}', "[]"])
def test_a_damaged_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json is not a result of `evaluate`, or is damaged"):
        Evaluation.read(tmp_path / "a.json")


def test_another_model_has_another_fingerprint(found: Evaluation, tmp_path: Path) -> None:
    other = run("lab/reference", tmp_path / "reference.json")
    assert other.facts["model"]["weights_hash"] != found.facts["model"]["weights_hash"]
    assert other.tasks["lab"].items == found.tasks["lab"].items


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ["lba"]}, "tasks: no task 'lba'; did you mean lab"),
        ({"limit": 0}, "limit: got 0"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"model": "runs/none/of/these"}, "model.path: 'runs/none/of/these' is neither a directory"),
        ({"model": None}, "model.path: a fresh model"),
        ({"output": "."}, "output: . exists"),
    ],
)
def test_mistakes_are_refused_before_weights_are_loaded(
    options: dict[str, Any], message: str, few_tasks: None, tmp_path: Path
) -> None:
    model = options.pop("model", "lab/base")
    settings = {"tasks": ["lab"], "output": str(tmp_path / "a.json"), **options}
    with pytest.raises(ConfigError) as error:
        evaluate(ModelSpec(model), **settings)
    assert str(error.value).startswith(message)


@pytest.mark.usefixtures("no_weights")
def test_a_model_that_is_not_the_labs_is_refused_before_its_weights(byte_model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lab's tokenizer"):
        run(byte_model_dir, tmp_path / "a.json")


def test_an_earlier_file_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="overwrite"):
        run("lab/base", path)
    assert path.read_text() == "precious"
    assert run("lab/base", path, overwrite=True).tasks["lab"].metrics


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_rows: Path) -> Path:
    """The folder of a run of 2 steps from the lab's base model, with a checkpoint after the first."""
    config = {
        "model": {
            "policy": {"path": "lab/base"},
            "weighting": "NextTokenPrediction",
            "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5}},
            "horizon": {"steps": 2},
        },
        "data": {"rows": str(tiny_rows), "batch_size": 2, "num_workers": 0},
        "trainer": {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False},
        "checkpoint": {"every_n_train_steps": 1, "keep_last": None},
    }
    directory = tmp_path_factory.mktemp("trained")
    (directory / "ntp.yaml").write_text(yaml.safe_dump({**config, "run_dir": str(directory / "run")}))
    main(["fit", "--config", str(directory / "ntp.yaml")])
    return directory / "run"


def test_a_run_stands_for_its_model_and_a_checkpoint_for_itself(
    trained: Path, found: Evaluation, tmp_path: Path
) -> None:
    paths = {
        "run": trained,
        "model": trained / "model",
        "last": trained / "checkpoints" / "last.ckpt",
        "first": trained / "checkpoints" / "step-00000001",
    }
    prints = {name: run(path, tmp_path / name).facts["model"]["weights_hash"] for name, path in paths.items()}
    assert prints["run"] == prints["model"] == prints["last"]
    assert len({prints["run"], prints["first"], found.facts["model"]["weights_hash"]}) == 3


def test_a_run_without_a_model_says_what_to_give(trained: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("model"), symlinks=True)
    with pytest.raises(ConfigError, match=r"has no model/ yet; give one of its checkpoints, .*last\.ckpt"):
        run(copy, tmp_path / "a.json")


@pytest.mark.fault("`evaluate` on a damaged checkpoint", "refused by name")
def test_a_damaged_checkpoint_is_refused(trained: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(trained, tmp_path / "run", symlinks=True))
    weights = copy / "checkpoints" / "step-00000001" / "policy.safetensors"
    state = load_file(weights)
    save_file({name: torch.zeros_like(value) for name, value in state.items()}, weights)
    with pytest.raises(DataError, match="damaged"):
        run(weights.parent, tmp_path / "a.json")


@pytest.mark.slow
def test_the_verb_in_a_process(tmp_path: Path) -> None:
    output = tmp_path / "out" / "base.json"
    command = [sys.executable, "-m", "remit_lit", "evaluate", "--model.path=lab/base", "--limit=30"]
    command += ["--tasks=lab,offline_humaneval", f"--output={output}", "--accelerator=cpu", f"--cache={tmp_path}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = Evaluation.read(output)
    accuracy = written.tasks["lab"].metrics["accuracy"].value
    line = next(line for line in done.stdout.splitlines() if "accuracy" in line)
    assert f"{accuracy:.4f}" in line and " 30 " in line
    assert "not run: offline_humaneval: it runs code that the model wrote" in done.stdout
    assert done.stdout.endswith(f"evaluate: {output}\n")


@pytest.mark.parametrize("tasks", ["[offline_gsm9k]", "offline_gsm9k", "lab,offline_gsm9k"])
def test_the_command_line_refuses_an_unknown_task(
    tasks: str, few_tasks: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--model.path=lab/base", f"--tasks={tasks}", f"--output={tmp_path}/a.json"])
    assert stop.value.code == 2
    assert "did you mean offline_gsm8k" in capsys.readouterr().err


def test_standard_errors_by_hand() -> None:
    outcomes = np.array([1.0, 0.0, 1.0, 1.0])
    deviation = math.sqrt(sum((x - 0.75) ** 2 for x in outcomes) / 3)
    assert standard_error(Metric(outcomes, True)) == pytest.approx(deviation / 2)
    assert standard_error(Metric(outcomes, True, np.full(4, 7.0))) == pytest.approx(deviation / 2)
    assert math.isnan(standard_error(Metric(outcomes[:1], True)))


def test_the_standard_error_of_a_pooled_figure_is_that_of_redrawn_items() -> None:
    generator = np.random.default_rng(0)
    weights = generator.lognormal(4.0, 0.8, 400)
    outcomes = generator.normal(1.0, 0.3, 400) + 20 / weights
    drawn = generator.integers(400, size=(4000, 400))
    redrawn = (outcomes * weights)[drawn].sum(axis=1) / weights[drawn].sum(axis=1)
    assert standard_error(Metric(outcomes, False, weights)) == pytest.approx(redrawn.std(), rel=0.08)


def test_the_table_shows_wilsons_interval_where_nothing_was_solved() -> None:
    metrics = {"accuracy": Metric(np.zeros(100), True)}
    tasks = {"gsm8k": TaskResult(metrics, tuple("a" * 100)), "bbh": TaskResult(not_run="no hub")}
    evaluation = Evaluation(tasks, {"model": {"path": "m"}})
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(results_table(evaluation))
    line = next(line for line in console.export_text().splitlines() if "gsm8k" in line)
    assert "0.0000 to 0.0370" in line  # 1.96 ** 2 / (100 + 1.96 ** 2)
    assert not_run(evaluation) == ["not run: bbh: no hub"]


@pytest.mark.parametrize(("higher_is_better", "most"), [(True, 1.0), (False, np.inf)], ids=["share", "loss"])
def test_the_tables_intervals_stay_where_the_figure_can_be(higher_is_better: bool, most: float) -> None:
    outcomes = np.array([0.0, 0.0, 0.01, 0.9, 0.99])  # by themselves, so few items reach beyond 0 and 1
    evaluation = Evaluation({"lab": TaskResult({"m": Metric(outcomes, higher_is_better)}, tuple("abcde"))}, {})
    (interval,) = results_table(evaluation).columns[-1].cells
    low, high = map(float, str(interval).split(" to "))
    assert 0 <= low < outcomes.mean() < high <= most


def test_the_table_says_which_revision_it_is_of() -> None:
    facts = {"model": {"path": "org/base", "revision": "stage1-step10"}}
    assert results_table(Evaluation({}, facts)).title == "org/base at stage1-step10"


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    broken = Evaluation({}, {"model": object()})
    with pytest.raises(TypeError):
        broken.write(path)
    assert not path.exists()
    Evaluation({}, {"model": 1}).write(path)
    assert json.loads(path.read_text())["facts"] == {"model": 1}
