"""A saved config has every argument, whatever a class makes of it."""

import pickle
from dataclasses import dataclass
from typing import Any

import pytest

from remit_lit.errors import ConfigError
from remit_lit.runs.configuration import Configured, configuration


class Renamed(Configured):
    """Keeps one argument under another name, and what it makes of the other."""

    def __init__(self, path: str, limit: int = 3, **options: Any) -> None:
        self._files, self.rows = [path], list(range(limit))


@dataclass
class Child(Configured):
    rate: float
    inner: Renamed


class Bare(Configured):
    """Without arguments."""


@dataclass
class Plain:
    rate: float


class Foreign:
    def __init__(self, kept: int, dropped: int = 0) -> None:
        self.kept = kept


def test_arguments_count_that_are_not_kept_under_their_names() -> None:
    assert configuration(Renamed("a.jsonl", seed=1)) == {
        "class_path": "tests.runs.test_configuration.Renamed",
        "init_args": {"path": "a.jsonl", "limit": 3, "seed": 1},
    }
    assert configuration(Renamed("a", 4)) != configuration(Renamed("a", 5)) != configuration(Renamed("b", 5))


def test_classes_within_others_and_lists_are_told_in_full() -> None:
    child = configuration([Child(0.5, Renamed("a")), Plain(2.0)])
    assert child[0]["class_path"] == "tests.runs.test_configuration.Child"
    assert child[0]["init_args"]["rate"] == 0.5 and child[0]["init_args"]["inner"]["init_args"]["path"] == "a"
    assert child[1] == {"rate": 2.0}
    assert configuration(Bare()) == {"class_path": "tests.runs.test_configuration.Bare", "init_args": {}}


def test_arguments_outlive_a_copy_in_another_process() -> None:
    copied = pickle.loads(pickle.dumps(Renamed("a.jsonl", 7)))
    assert configuration(copied) == configuration(Renamed("a.jsonl", 7))


def test_an_argument_that_nothing_tells_is_an_error_and_not_dropped() -> None:
    with pytest.raises(ConfigError, match=r"Foreign\.dropped: .* keep it as self\.dropped"):
        configuration(Foreign(1, 2))


def test_wrong_arguments_are_refused_as_by_any_class() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'path'"):
        Renamed()  # type: ignore[call-arg]
