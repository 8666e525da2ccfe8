"""The texts of evaluation items, to be kept out of the training data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from remit_lit.benchmarks.hub import short_waits
from remit_lit.errors import ConfigError
from remit_lit.lab.task import DEV_PROBLEMS, TEST_PROBLEMS, correct_completion, sample_problems


def evaluation_items(name: str) -> Iterator[tuple[str, str]]:
    """The task of each item, as ``evaluate`` names its result, and the item's question, as the task puts it, and right
    answer; an item with several right answers once with each.

    Instructions and worked examples that a task writes into each question count as part of the item.

    Args:
        name: ``lab``, whose items are the dev and test problems that models are measured on; or a task, group or tag
            that ``evaluate`` takes, whose items are those that it would measure on.

    Raises:
        ConfigError: there is no such task, lm_eval is not installed, or the task's items cannot be loaded.
    """
    return (("lab", text) for text in _lab_texts()) if name == "lab" else _harness_items(name)


def _lab_texts() -> Iterator[str]:
    problems = sample_problems(DEV_PROBLEMS, "dev") + sample_problems(TEST_PROBLEMS, "test")
    yield from (problem.prompt + correct_completion(problem) for problem in problems)


def _harness_items(name: str) -> Iterator[tuple[str, str]]:
    try:
        from remit_lit.benchmarks.catalogue import catalogue
        from remit_lit.benchmarks.offline import CACHE, offline_folder
    except ImportError as error:
        raise ConfigError(
            f"decontaminate: the items of {name!r} need lm-evaluation-harness ({error}); install it, or give a file"
        ) from error
    tasks = catalogue(Path(CACHE, "offline"))
    for unit in tasks.resolve([name]):
        for leaf in unit.leaves:
            try:
                if leaf.is_ours:
                    offline_folder(Path(CACHE))
                with short_waits():
                    loaded = tasks.load(leaf)
                    documents = list(loaded.eval_docs)
            except Exception as error:  # whatever a task's loader raises: a hub's errors, a missing package
                raise ConfigError(f"decontaminate: the items of {leaf.name!r} cannot be loaded ({error})") from error
            for document in documents:
                yield from ((unit.name, text) for text in _texts(loaded, document))


def _texts(task: Any, document: Any) -> Iterator[str]:
    """A choice may be named by its index, in the question (as in winogrande) or in the answer."""
    choices = [] if task.config.doc_to_choice is None else task.doc_to_choice(document)

    def named(value: Any) -> str:
        return str(choices[value] if isinstance(value, int) and 0 <= value < len(choices) else value)

    answers = task.doc_to_target(document)
    for answer in answers if isinstance(answers, list) else [answers]:
        yield f"{named(task.doc_to_text(document))} {named(answer)}"
