"""What a stage learns from: JSON lines, ``datasets`` datasets, the lab's problems, or a mixture of them."""

import hashlib
import json
from abc import ABC, abstractmethod
from typing import Any

import datasets
from datasets import Dataset

from remit_lit.errors import ConfigError, DataError
from remit_lit.files import matching_files
from remit_lit.lab.task import Split, check_split, correct_completion, sample_problems


class Examples(ABC):
    """Examples in a fixed order, as columns.

    A prompt, an answer and both sides of a preference are text, or lists of messages with ``role`` and ``content``.
    """

    def check(self) -> None:  # noqa: B027
        """Refuse what is plainly not there, without reading it."""

    @abstractmethod
    def load(self) -> Dataset:
        """All examples.

        Raises:
            ConfigError: they cannot be found, or lack a column.
            DataError: they are malformed.
        """


class ExampleFiles(Examples):
    """JSON objects, one a line.

    Args:
        files: paths or glob patterns.
        columns: the columns to keep, by the name that the stage wants, with the name that the files have, e.g.
            ``{answer: ground_truth}``; null keeps all under their names.
    """

    def __init__(self, files: str | list[str], columns: dict[str, str] | None = None) -> None:
        self.files, self.columns = files, columns

    def check(self) -> None:
        """Raise ConfigError where a pattern matches no file."""
        matching_files(self.files)

    def load(self) -> Dataset:
        rows = [row for path in matching_files(self.files) for row in _read(path)]
        if not rows:
            raise DataError(f"files: {self.files} hold no examples")
        return _keep(Dataset.from_list(rows), self.columns, str(self.files))


class HubExamples(Examples):
    """A ``datasets`` dataset.

    Args:
        path: hub id, or a local directory of data files.
        name: configuration of the dataset.
        split: e.g. ``train`` or ``train[:50%]``.
        revision: branch, tag or commit on the hub.
        columns: as of ExampleFiles.
    """

    def __init__(
        self,
        path: str,
        name: str | None = None,
        split: str = "train",
        revision: str | None = None,
        columns: dict[str, str] | None = None,
    ) -> None:
        self.path, self.name, self.split, self.revision, self.columns = path, name, split, revision, columns

    def load(self) -> Dataset:
        try:
            loaded = datasets.load_dataset(self.path, self.name, split=self.split, revision=self.revision)
        except (OSError, ValueError, KeyError, ConnectionError) as error:
            raise ConfigError(f"path: cannot read split {self.split!r} of dataset {self.path!r} ({error})") from error
        return _keep(loaded, self.columns, self.path)


class LabProblems(Examples):
    """The lab's problems as ``prompt`` with their correct ``completion``.

    Args:
        problems: how many distinct ones.
        seed: which ones.
        split: ``train``, ``dev`` or ``test``; disjoint whatever the seeds.

    Raises:
        ConfigError: ``problems`` is below 1, or ``split`` is unknown.
    """

    def __init__(self, problems: int, seed: int = 0, split: Split = "train") -> None:
        check_split(split)
        if problems < 1:
            raise ConfigError(f"problems must be at least 1; got {problems}")
        self.problems, self.seed, self.split = problems, seed, split

    def load(self) -> Dataset:
        problems = sample_problems(self.problems, self.split, self.seed)
        return Dataset.from_list(
            [{"prompt": problem.prompt, "completion": correct_completion(problem)} for problem in problems]
        )


class Mixture(Examples):
    """Several sets of examples, one after the other; a stage shuffles them.

    Args:
        parts: at least one, all with the same columns.
    """

    def __init__(self, parts: list[Examples]) -> None:
        if not parts:
            raise ConfigError("parts: got none; give at least one")
        self.parts = parts

    def check(self) -> None:
        """Check each part."""
        for part in self.parts:
            part.check()

    def load(self) -> Dataset:
        loaded = [part.load() for part in self.parts]
        columns = [sorted(part.column_names) for part in loaded]
        for other in columns[1:]:
            if other != columns[0]:
                raise ConfigError(f"parts: columns differ ({columns[0]} and {other}); choose them with columns")
        return datasets.concatenate_datasets(loaded)


def fingerprint(examples: Dataset) -> str:
    """Hash of all columns of all examples, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for row in examples:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()


def _read(path: str) -> list[dict[str, Any]]:
    rows = []
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}, line {number}: not JSON ({error})") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: holds {type(row).__name__}, not an object")
            rows.append(row)
    return rows


def _keep(examples: Dataset, columns: dict[str, str] | None, where: str) -> Dataset:
    if columns is None:
        return examples
    missing = sorted(set(columns.values()) - set(examples.column_names))
    if missing:
        raise ConfigError(f"columns: {where} has no {missing}; it has {examples.column_names}")
    kept = examples.select_columns(list(dict.fromkeys(columns.values())))
    return kept.rename_columns({old: new for new, old in columns.items() if old != new})
