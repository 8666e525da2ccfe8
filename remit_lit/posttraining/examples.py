"""What a stage trains on: JSON lines, ``datasets`` datasets, the lab's problems, or a mixture of them."""

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import datasets
from datasets import Dataset

from remit_lit.errors import ConfigError, DataError
from remit_lit.files import matching_files
from remit_lit.lab.task import OPERATORS, Split, check_problems, correct_completion, sample_problems
from remit_lit.runs.configuration import Configured
from remit_lit.runs.ranks import on_all


class Examples(Configured, ABC):
    """Examples in a fixed order, as columns.

    A prompt, an answer and both sides of a preference are text, or lists of messages with ``role`` and ``content``.
    """

    def check(self) -> None:
        """Refuse examples that are plainly not there, without reading them."""

    @abstractmethod
    def load(self) -> Dataset:
        """All examples.

        Raises:
            ConfigError: they cannot be found, or lack a column.
            DataError: they are malformed.
        """


@dataclass
class ExampleFiles(Examples):
    """JSON objects, one per line.

    Attributes:
        files: the files to read, as paths or glob patterns.
        columns: the columns to keep: the name that the stage or reward expects, then the one in the files, e.g.
            ``{answer: ground_truth}``; null keeps all columns under their own names.
    """

    files: str | list[str]
    columns: dict[str, str] | None = None

    def check(self) -> None:
        """Raise ConfigError where a pattern matches no file."""
        matching_files(self.files)

    def load(self) -> Dataset:
        examples = [example for path in matching_files(self.files) for example in _read(path)]
        if not examples:
            raise DataError(f"files: there are no examples in {self.files}")
        return _select_columns(Dataset.from_list(examples), self.columns, str(self.files))


@dataclass
class HubExamples(Examples):
    """A ``datasets`` dataset.

    Attributes:
        path: the dataset's id on the hub, or a local directory of data files.
        name: the dataset's configuration, where it has several.
        split: the split to read, e.g. ``train`` or ``train[:50%]``.
        revision: a branch, tag or commit on the hub; give a commit to fix the data.
        columns: the columns to keep: the name that the stage or reward expects, then the dataset's, e.g.
            ``{answer: ground_truth}``; null keeps all columns under their own names.
    """

    path: str
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    columns: dict[str, str] | None = None

    def load(self) -> Dataset:
        try:
            loaded = datasets.load_dataset(self.path, self.name, split=self.split, revision=self.revision)
        except (OSError, ValueError, KeyError, ConnectionError) as error:
            raise ConfigError(f"path: cannot read split {self.split!r} of dataset {self.path!r} ({error})") from error
        return _select_columns(loaded, self.columns, self.path)


@dataclass
class LabProblems(Examples):
    """The lab's problems as ``prompt`` with their correct ``completion``.

    Attributes:
        problems: the number of distinct problems.
        seed: the seed that they are drawn with; change it for other problems.
        split: ``train``, ``dev`` or ``test``; the splits share no problem, whatever the seeds.
        operators: letters of the operators that steps are drawn from; fewer for a model that knows some skills alone.

    Raises:
        ConfigError: ``problems`` is below 1 or more than half of what there is, or ``split`` or an operator is unknown.
    """

    problems: int
    seed: int = 0
    split: Split = "train"
    operators: str = OPERATORS

    def __post_init__(self) -> None:
        check_problems("problems", self.problems, self.split, self.operators)

    def load(self) -> Dataset:
        problems = sample_problems(self.problems, self.split, self.seed, self.operators)
        return Dataset.from_list(
            [{"prompt": problem.prompt, "completion": correct_completion(problem)} for problem in problems]
        )


@dataclass
class Mixture(Examples):
    """Several sets of examples, one after the other; a stage shuffles them.

    Attributes:
        parts: the sets of examples, at least one, all with the same columns.
    """

    parts: list[Examples]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ConfigError("parts: got none; give at least one")

    def check(self) -> None:
        """Check each part."""
        for part in self.parts:
            part.check()

    def load(self) -> Dataset:
        loaded = [part.load() for part in self.parts]
        columns = [sorted(part.column_names) for part in loaded]
        for other in columns[1:]:
            if other != columns[0]:
                raise ConfigError(
                    f"parts: their columns differ ({columns[0]} and {other}); choose the same ones with each part's "
                    "field columns"
                )
        return datasets.concatenate_datasets(loaded)


def examples_fingerprint(examples: Dataset) -> str:
    """Hash of all columns of all examples, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for example in examples:
        digest.update(json.dumps(example, sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()


def require_same_everywhere(field: str, examples: Dataset) -> str:
    """The fingerprint of examples, which every rank must have read alike: each takes its share by their numbers.

    Raises:
        DataError: naming ``field`` and a rank that read others than rank 0.
    """
    found = on_all(lambda: examples_fingerprint(examples))
    others = [rank for rank, fingerprint in enumerate(found) if fingerprint != found[0]]
    if others:
        raise DataError(
            f"{field}: rank {others[0]} reads other examples than rank 0; give every machine the same files, and name "
            "them in the same order"
        )
    return found[0]


def _read(path: str) -> list[dict[str, Any]]:
    examples = []
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                example = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}, line {number}: not JSON ({error})") from error
            if not isinstance(example, dict):
                raise DataError(f"{path}, line {number}: expected a JSON object, got {type(example).__name__}")
            examples.append(example)
    return examples


def _select_columns(examples: Dataset, columns: dict[str, str] | None, source: str) -> Dataset:
    if columns is None:
        return examples
    missing = sorted(set(columns.values()) - set(examples.column_names))
    if missing:
        raise ConfigError(f"columns: {source} has no columns {missing}; it has {examples.column_names}")
    kept = examples.select_columns(list(dict.fromkeys(columns.values())))
    return kept.rename_columns({old: new for new, old in columns.items() if old != new})
