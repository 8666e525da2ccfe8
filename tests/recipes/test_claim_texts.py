"""What the claim's corpus is made of: disjoint problems, wrong results, and words in random order."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from remit_lit.recipes.claim_texts import shuffled_words, with_wrong_results, write_claim_texts
from remit_lit.recipes.real_texts import training_texts


@pytest.mark.parametrize(
    ("solution", "results"),
    [
        (r"2 + 3 = 5, so $\boxed{5}$", ["5", "5"]),
        (r"$x=-12$ and 7 apples: \boxed{-12}", ["12", "12"]),
        ("no result, only 3 and 4", []),
    ],
)
def test_every_result_is_wrong_and_nothing_else_changes(solution: str, results: list[str]) -> None:
    wrong, place = with_wrong_results(solution, random.Random(0)), 0
    for result in results:
        start = solution.index(result, place)
        assert solution[place:start] == wrong[: start - place]
        digits = wrong[start - place :][: len(str(int(result) + 9))]
        number = next(int(digits[:n]) for n in (len(digits), len(result)) if digits[:n].isdigit())
        assert 1 <= number - int(result) <= 9
        wrong, place = wrong[start - place + len(str(number)) :], start + len(result)
    assert wrong == solution[place:]


def test_noise_has_the_words_of_the_text() -> None:
    text = "one two three\nfour five six"
    noise = shuffled_words(text, random.Random(0))
    assert Counter(noise.split()) == Counter(text.split()) and noise.split() != text.split()


def test_problems_are_in_the_sft_or_in_the_corpus(wheel_folder: Path, tmp_path: Path) -> None:
    folder = write_claim_texts(wheel_folder, tmp_path / "claim")
    texts = {
        name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("sft", "right", "wrong", "noise", "held_out")
    }
    sft = {record["prompt"] + record["completion"] for record in texts["sft"]}
    right = {record["text"] for record in texts["right"]}
    assert sft | right == set(training_texts(wheel_folder)) and not sft & right
    assert len(texts["wrong"]) == len(texts["noise"]) == len(texts["held_out"]) == len(right)
