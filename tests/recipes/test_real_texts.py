import json

from remit_lit.recipes.real_texts import write_corpus


def test_trains_on_each_problem_once_and_on_no_held_out_one(wheel_folder, tmp_path):
    lines = (write_corpus(wheel_folder, tmp_path / "math") / "train.jsonl").read_text().splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    assert texts == [f"Problem:\n{problem}\n\nSolution: gold" for problem in ("one", "two", "three")]
