import json

import pytest

from remit_lit.errors import ConfigError
from remit_lit.real.benchmarks import HELD_OUT, held_out_items
from remit_lit.real.corpus import write_corpus


def test_trains_on_each_problem_once_and_on_no_held_out_one(wheel_folder, tmp_path):
    lines = (write_corpus(wheel_folder, tmp_path / "math") / "train.jsonl").read_text().splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    assert texts == [f"Problem:\n{problem}\n\nSolution: gold" for problem in ("one", "two", "three")]


def test_zero_shot_contexts_and_mended_mbpp(wheel_folder):
    first = {benchmark.title: held_out_items(wheel_folder, benchmark, 2)[0] for benchmark in HELD_OUT}
    assert first["GSM8K"].context == "Question: GSM8K 0\nAnswer:"
    assert first["MATH geometry"].context == "Problem:\nMATH geometry 0\n\nSolution:"
    assert first["HumanEval"].context == "shots HumanEval 0"
    assert first["MBPP"].continuation == "def f():\n    return 1"
    assert first["GSM8K"].continuation == " gold"


def test_the_first_items_are_taken(wheel_folder):
    assert len(held_out_items(wheel_folder, HELD_OUT[0], 2)) == 2
    assert len(held_out_items(wheel_folder, HELD_OUT[0], 1000)) == 3
    with pytest.raises(ConfigError, match="items: got 1"):
        held_out_items(wheel_folder, HELD_OUT[0], 1)
