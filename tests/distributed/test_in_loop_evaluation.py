"""Evaluation within a run of two processes: the figures of one process, on the same losses, and no false alarm."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from remit_lit.evaluation.harness import run_tasks
from remit_lit.lab.task import sample_problems
from remit_lit.lab.tokenizer import build_tokenizer
from remit_lit.runs.history import read_history
from remit_lit.training.callbacks.watchdog import EXIT_CODE
from tests.distributed.test_engines import engine
from tests.helpers import save_model
from tests.processes import Run, furthest

pytestmark = pytest.mark.slow

LIMIT, TIMEOUT = 4, 4
ENGINES = ["ddp", "zero2", "zero3"]


@pytest.fixture(scope="module")
def policy_with_dropout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("policy"), seed=1, attention_dropout=0.2)


def evaluation(**options: Any) -> dict[str, Any]:
    settings = {"tasks": ["lab"], "every_n_steps": 2, "limit": LIMIT, "at_start": True, **options}
    return {"class_path": "remit_lit.training.callbacks.in_loop_evaluation.InLoopEvaluation", "init_args": settings}


def config(rows: Path, policy: Path, engine_name: str, callbacks: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "model": {
            "policy": {"path": str(policy)},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-2}},
            "horizon": {"steps": 3},
        },
        "data": {"rows": str(rows), "batch_size": 2, "num_workers": 0},
        "trainer": {
            "accelerator": "cpu",
            "devices": 2,
            "strategy": engine(engine_name),
            "log_every_n_steps": 1,
            "limit_val_batches": 0,
            "enable_progress_bar": False,
            "callbacks": callbacks,
        },
        **more,
    }


class Runs:
    """Runs with an evaluation and without, each trained once."""

    def __init__(self, directory: Path, rows: Path, policy: Path) -> None:
        self.directory, self.rows, self.policy = directory, rows, policy
        self.runs: dict[tuple[str, bool], Run] = {}

    def run(self, engine_name: str, *, evaluated: bool) -> Run:
        key = engine_name, evaluated
        if key not in self.runs:
            callbacks = [evaluation()] if evaluated else []
            settings = config(self.rows, self.policy, engine_name, callbacks)
            self.runs[key] = Run(self.directory / f"{engine_name}-{evaluated}", settings).finish()
        return self.runs[key]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_rows_split: Path, policy_with_dropout: Path) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), tiny_rows_split, policy_with_dropout)


@pytest.mark.parametrize("engine_name", ENGINES)
def test_two_processes_find_what_one_finds_in_the_exported_weights(engine_name: str, runs: Runs) -> None:
    run = runs.run(engine_name, evaluated=True)
    points = {point.global_step: point.figures for point in read_history(run.folder)}
    assert list(points) == [0, 2, 3]
    for step, directory in ((0, runs.policy), (3, run.folder / "model")):
        found = run_tasks(AutoModelForCausalLM.from_pretrained(directory), build_tokenizer(), ["lab"], limit=LIMIT)
        assert points[step] == {f"lab/{name}": metric.value for name, metric in found["lab"].metrics.items()}
    assert points[0]["lab/nll_noise"] != points[3]["lab/nll_noise"]
    assert "3 times" in run.output


@pytest.mark.parametrize("engine_name", ENGINES)
def test_training_of_two_processes_is_the_same_to_the_last_bit(engine_name: str, runs: Runs) -> None:
    plain, run = (runs.run(engine_name, evaluated=on) for on in (False, True))
    assert run.metrics == plain.metrics and len(run.losses) == 3
    assert furthest(run.weights, plain.weights) == 0.0


def test_ranks_that_wait_for_a_long_evaluation_do_not_hang(
    tiny_rows_split: Path, policy_with_dropout: Path, tmp_path: Path
) -> None:
    run = slow_run(tiny_rows_split, policy_with_dropout, tmp_path, seconds=0.6).finish()
    forwards = len((tmp_path / "asked").read_text().splitlines())
    assert forwards * 0.6 > 2 * TIMEOUT  # one evaluation is longer
    assert [point.global_step for point in read_history(run.folder)] == [3]


def test_an_evaluation_that_hangs_is_named(tiny_rows_split: Path, policy_with_dropout: Path, tmp_path: Path) -> None:
    run = slow_run(tiny_rows_split, policy_with_dropout, tmp_path, seconds=3600)
    assert run.run() == EXIT_CODE
    assert f"made no progress for {TIMEOUT} s" in run.output
    assert re.search(r"error: rank 0: rank 0 \(process \d+ on .*\) made no progress", run.output), run.output


def slow_run(rows: Path, policy: Path, directory: Path, seconds: float) -> Run:
    """A run that evaluates at its end, with a policy that takes so long for a forward pass."""
    texts = directory / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": problem.prompt}) + "\n" for problem in sample_problems(16, "dev")))
    settings = {"seconds": seconds, "record": str(directory / "asked")}
    slow = {"class_path": "tests.distributed.slow_policy.SlowPolicy", "init_args": settings}
    callbacks = [slow, evaluation(tasks=[str(texts)], limit=16, batch_size=1, every_n_steps=100, at_start=False)]
    return Run(directory, config(rows, policy, "ddp", callbacks, watchdog={"timeout": TIMEOUT}))
