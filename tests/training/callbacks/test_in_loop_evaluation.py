"""Evaluation of the policy in training: when it happens, what it finds, and that training does not notice."""

import csv
import json
import random
import re
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml  # type: ignore[import-untyped]
from lightning.pytorch.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from remit_lit.cli.dispatch import main
from remit_lit.errors import ConfigError, DataError
from remit_lit.evaluation import harness
from remit_lit.evaluation.results import Metric, TaskResult
from remit_lit.lab.tokenizer import build_tokenizer
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import LiveReference
from remit_lit.runs.checkpoint import checkpoint_path
from remit_lit.runs.checkpoint_io import CheckpointFiles
from remit_lit.runs.history import HISTORY, read_history
from remit_lit.training.callbacks.checkpoints import Checkpoints
from remit_lit.training.callbacks.in_loop_evaluation import InLoopEvaluation
from remit_lit.weighting import ReMiT
from tests.helpers import TIME, Run, build, fit, llama_config, save_model
from tests.processes import short_run

LIMIT = 3


@pytest.fixture(scope="module")
def policy_with_dropout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy whose training draws random numbers."""
    return save_model(tmp_path_factory.mktemp("policy"), seed=1, attention_dropout=0.2)


def every(steps: int, **options: Any) -> InLoopEvaluation:
    return InLoopEvaluation(["lab"], steps, **{"limit": LIMIT, **options})


def figures_of(model: Any) -> dict[str, float]:
    found = harness.run_tasks(model, build_tokenizer(), ["lab"], limit=LIMIT)
    return {f"lab/{name}": metric.value for name, metric in found["lab"].metrics.items()}


def size_of_weights(model: Any) -> float:
    """Other weights have another."""
    return sum(parameter.double().abs().sum().item() for parameter in model.parameters())


@pytest.fixture
def cheap_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure that tells weights apart, in place of the lab's."""

    def run_tasks(model: Any, *_: Any, **__: Any) -> dict[str, TaskResult]:
        return {"lab": TaskResult({"size": Metric(np.array([size_of_weights(model)]), None)}, ("all",))}

    monkeypatch.setattr(harness, "run_tasks", run_tasks)


class Draws(pl.Callback):
    """What each generator gives in each micro-batch."""

    def __init__(self) -> None:
        self.numbers: list[tuple[float, float, float]] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.numbers.append((random.random(), np.random.rand(), torch.rand(()).item()))


@pytest.fixture
def drawing_tasks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tasks that draw from every generator and put them where they like, and leave gradients and modes alone."""
    run_tasks, asked = harness.run_tasks, []

    def drawing(model: Any, tokenizer: Any, tasks: list[str], **options: Any) -> Any:
        asked.append("asked")
        random.seed(len(asked))
        np.random.seed(len(asked))
        torch.manual_seed(len(asked))
        return run_tasks(model, tokenizer, tasks, **options)

    monkeypatch.setattr(harness, "run_tasks", drawing)
    return asked


# A compiled backward on a CPU does not repeat its own last bits: plain runs have several outcomes, and that of a run
# with evaluations must be, to the bit, among those of so many.
@pytest.mark.parametrize(("compiled", "plain_runs"), [(False, 1), pytest.param(True, 12, marks=pytest.mark.slow)])
def test_training_is_the_same_to_the_last_bit(
    compiled: bool,
    plain_runs: int,
    tiny_rows_split: Path,
    policy_with_dropout: Path,
    tiny_reference_dir: Path,
    tmp_path: Path,
    drawing_tasks: list[str],
) -> None:
    def trained(*evaluation: InLoopEvaluation) -> tuple[Run, Draws]:
        draws = Draws()
        pl.seed_everything(0, verbose=False)
        run = fit(
            tiny_rows_split,
            policy_with_dropout,
            tmp_path,
            steps=5,
            accumulate=2,
            weighting=ReMiT(),
            reference=LiveReference(ModelSpec(str(tiny_reference_dir))),
            compile=compiled,
            callbacks=[*evaluation, draws],
        )
        return run, draws

    evaluated, numbers = trained(every(3, at_start=True))
    assert len(drawing_tasks) == 3
    for _ in range(plain_runs):
        plain, others = trained()
        assert others.numbers == numbers.numbers and len(plain.losses) == 5
        is_same = all(torch.equal(evaluated.parameters[name], value) for name, value in plain.parameters.items())
        if is_same and evaluated.recorder.metrics == plain.recorder.metrics:
            return
    raise AssertionError(f"no plain run of {plain_runs} ends as the one with evaluations does")


def test_dropout_tells_random_states_apart(tiny_rows_split: Path, policy_with_dropout: Path, tmp_path: Path) -> None:
    """Else the test above could not fail."""
    losses = []
    for seed in (0, 1):
        pl.seed_everything(seed, verbose=False)
        losses.append(fit(tiny_rows_split, policy_with_dropout, tmp_path, steps=1).losses)
    assert losses[0] != losses[1]


def test_a_fresh_policy_starts_from_the_same_weights(
    tiny_rows_split: Path, tiny_tokenizer_dir: Path, tmp_path: Path
) -> None:
    config = {**llama_config().to_diff_dict(), "model_type": "llama"}
    losses = []
    for evaluation in ([], [every(1)]):
        pl.seed_everything(3, verbose=False)
        spec = ModelSpec(config=config, tokenizer=str(tiny_tokenizer_dir))
        losses.append(fit(tiny_rows_split, spec, tmp_path, steps=2, callbacks=evaluation).losses)
    assert losses[0] == losses[1]


@pytest.mark.usefixtures("cheap_tasks")
@pytest.mark.parametrize(
    ("steps", "period", "at_start", "expected"),
    [(5, 2, True, [0, 2, 4, 5]), (5, 2, False, [2, 4, 5]), (4, 4, False, [4]), (3, 10, True, [0, 3])],
)
def test_it_runs_at_optimizer_steps_and_at_the_end(
    steps: int, period: int, at_start: bool, expected: list[int], tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path
) -> None:
    sizes = {0: size_of_weights(ModelSpec(str(tiny_policy_dir)).load())}

    class Sizes(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
            sizes[trainer.global_step] = size_of_weights(pl_module.policy)

    callback = every(period, at_start=at_start)
    fit(tiny_rows, tiny_policy_dir, tmp_path, steps=steps, accumulate=3, callbacks=[callback, Sizes()])
    assert [point.global_step for point in callback.history] == expected
    assert [point.tokens for point in callback.history] == [step * 3 * 2 * TIME for step in expected]
    assert [point.figures for point in callback.history] == [{"lab/size": sizes[step]} for step in expected]
    assert len(set(sizes.values())) == steps + 1
    assert read_history(tmp_path) == callback.history
    assert callback.times == len(expected)


def test_the_figures_are_those_of_the_policy(tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path) -> None:
    callback = every(10, at_start=True)
    run = fit(tiny_rows, tiny_policy_dir, tmp_path, steps=2, callbacks=[callback])
    before, after = (point.figures for point in callback.history)
    assert before == figures_of(ModelSpec(str(tiny_policy_dir)).load())
    assert after == figures_of(run.policy)
    assert before["lab/nll_noise"] != after["lab/nll_noise"]
    assert {"lab/accuracy", "lab/nll_correct_result", "lab/nll_wrong_result"} <= set(after)


@pytest.mark.usefixtures("cheap_tasks")
def test_figures_are_logged_at_the_steps_that_made_the_weights(
    tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path
) -> None:
    callback = every(2, at_start=True)
    logger = CSVLogger(tmp_path, name="", version="")
    fit(tiny_rows, tiny_policy_dir, tmp_path, steps=3, callbacks=[callback], trainer={"logger": logger})
    with open(tmp_path / "metrics.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {"train/loss", "eval/lab/size"} <= set(rows[0])
    logged = {int(row["step"]): float(row["eval/lab/size"]) for row in rows if row["eval/lab/size"]}
    assert logged == {point.global_step: point.figures["lab/size"] for point in callback.history}
    assert list(logged) == [0, 2, 3]


def test_the_mode_of_the_policy_is_restored(tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path) -> None:
    modes = []

    class Modes(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
            modes.append({module.training for module in pl_module.policy.modules()})

    fit(tiny_rows, tiny_policy_dir, tmp_path, steps=2, callbacks=[every(1), Modes()])
    assert modes == [{True}] * 2


def resumed(rows: Path, policy: Path, run_dir: Path, step: int | None, callback: InLoopEvaluation) -> Run:
    """A run of 6 steps with a checkpoint after every other, from its beginning or from one of them."""
    settings: dict[str, Any] = {"plugins": [CheckpointFiles()], "enable_checkpointing": True}
    checkpoints = Checkpoints(every_n_train_steps=2, keep_last=None)
    run, data = build(rows, policy, run_dir, steps=6, callbacks=[callback, checkpoints], trainer=settings)
    path = None if step is None else checkpoint_path(run_dir / "checkpoints", step)
    run.trainer.fit(run.module, datamodule=data, ckpt_path=path)
    return run


@pytest.mark.usefixtures("cheap_tasks")
def test_a_run_that_goes_on_repeats_nothing(tiny_rows: Path, policy_with_dropout: Path, tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    resumed(tiny_rows, policy_with_dropout, tmp_path, None, first := every(1, at_start=True))
    undisturbed = (tmp_path / HISTORY).read_bytes()
    assert [point.global_step for point in first.history] == list(range(7))
    resumed(tiny_rows, policy_with_dropout, tmp_path, 4, second := every(1, at_start=True))
    assert second.times == 2
    assert second.history == first.history
    assert (tmp_path / HISTORY).read_bytes() == undisturbed


@pytest.mark.usefixtures("cheap_tasks")
def test_what_was_lost_with_the_process_is_measured_again(
    tiny_rows: Path, policy_with_dropout: Path, tmp_path: Path
) -> None:
    pl.seed_everything(0, verbose=False)
    resumed(tiny_rows, policy_with_dropout, tmp_path, None, every(2))
    undisturbed = (tmp_path / HISTORY).read_text()
    first, second, _ = undisturbed.splitlines(keepends=True)
    (tmp_path / HISTORY).write_text(first + second[:20])  # cut off in the midst of the line of step 4
    resumed(tiny_rows, policy_with_dropout, tmp_path, 4, callback := every(2))
    assert callback.times == 2
    assert (tmp_path / HISTORY).read_text() == undisturbed


@pytest.mark.usefixtures("cheap_tasks")
def test_a_new_run_does_not_go_on_with_an_earlier_history(
    tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        fit(tiny_rows, tiny_policy_dir, tmp_path, steps=2, callbacks=[every(1, at_start=True)])
    assert [point.global_step for point in read_history(tmp_path)] == [0, 1, 2]


def test_a_damaged_history_is_named(tmp_path: Path) -> None:
    assert read_history(tmp_path) == []
    (tmp_path / HISTORY).write_text('{"step": 1}\n')
    with pytest.raises(DataError, match=rf"{HISTORY} is damaged, or is not a history"):
        read_history(tmp_path)


@pytest.fixture
def slow_tasks(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Tasks that take a second; how they were asked."""
    asked = []

    def run_tasks(model: Any, tokenizer: Any, tasks: list[str], **options: Any) -> dict[str, TaskResult]:
        asked.append({"tasks": tasks, **options})
        time.sleep(1)
        found = TaskResult({"accuracy": Metric(np.array([0.0, 1.0]), True)}, ("a", "b"))
        return {"lab": found, "other": TaskResult(not_run="no data")}

    monkeypatch.setattr(harness, "run_tasks", run_tasks)
    return asked


def test_settings_reach_the_tasks_and_a_task_that_was_not_run_is_named(
    tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path, slow_tasks: list[dict[str, Any]]
) -> None:
    callback = InLoopEvaluation(["lab"], 2, limit=7, batch_size=5, allow_code_execution=True)
    with pytest.warns(UserWarning, match="task other was not run: no data"):
        fit(tiny_rows, tiny_policy_dir, tmp_path, steps=2, callbacks=[callback])
    assert slow_tasks == [{"tasks": ["lab"], "limit": 7, "batch_size": 5, "allow_code_execution": True}]
    assert callback.history[-1].figures == {"lab/accuracy": 0.5}


def test_its_seconds_are_printed_and_are_not_those_of_training(
    tiny_rows: Path,
    tiny_policy_dir: Path,
    tmp_path: Path,
    slow_tasks: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = {"class_path": "InLoopEvaluation", "init_args": {"tasks": ["lab"], "every_n_steps": 2}}
    config = {**short_run(tiny_rows, tiny_policy_dir, 4, [asked]), "run_dir": str(tmp_path / "run")}
    config["trainer"]["log_every_n_steps"] = 1
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    main(["fit", f"--config={tmp_path / 'config.yaml'}"])
    found = re.search(r"evaluation took ([\d.]+) s of ([\d.]+) s, 2 times", capsys.readouterr().out)
    assert found is not None
    assert 2.0 <= float(found[1]) < float(found[2])
    with open(tmp_path / "run" / "metrics.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    rates = [float(row["tokens_per_second"]) for row in rows if row["tokens_per_second"]]
    assert len(rates) == 4 and min(rates) > 2 * TIME  # a second more, and they were below
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("eval/lab/accuracy")] == [(2, 0.5), (4, 0.5)]
    lines = (tmp_path / "run" / HISTORY).read_text().splitlines()
    assert json.loads(lines[0]) == {"global_step": 2, "tokens": 4 * TIME, "figures": {"lab/accuracy": 0.5}}


def test_another_tokenizer_is_refused_before_weights_are_loaded(
    tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path, request: Any
) -> None:
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<z>"]})
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    spec = ModelSpec(str(tiny_policy_dir), tokenizer=str(tmp_path / "tokenizer"))
    request.getfixturevalue("no_weights")
    with pytest.raises(ConfigError, match="lab's tokenizer"):
        fit(tiny_rows, spec, tmp_path, callbacks=[every(1)])


def test_what_is_not_installed_is_named(
    tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    request.getfixturevalue("no_weights")
    monkeypatch.setitem(sys.modules, "remit_lit.evaluation.harness", None)
    with pytest.raises(ConfigError, match=r"InLoopEvaluation: pip install 'remit_lit\[evaluation\]'"):
        fit(tiny_rows, tiny_policy_dir, tmp_path, callbacks=[every(1)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": []}, r"InLoopEvaluation.tasks: got \[\]"),
        ({"tasks": ["lab", "lab"]}, r"InLoopEvaluation.tasks: got \['lab', 'lab'\]"),
        ({"every_n_steps": 0}, "InLoopEvaluation.every_n_steps: got 0"),
        ({"limit": 0}, "InLoopEvaluation.limit: got 0"),
        ({"batch_size": -1}, "InLoopEvaluation.batch_size: got -1"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InLoopEvaluation(**{"tasks": ["lab"], "every_n_steps": 1, **arguments})
