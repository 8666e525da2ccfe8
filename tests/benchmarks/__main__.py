"""``python -m tests.benchmarks``: every figure as one table, also written to RESULTS.md beside this file."""

import argparse
import importlib
import importlib.metadata
import logging
import os
import platform
import time
import warnings
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from tests.benchmarks.measure import Figure

_PARTS = ("loss", "steps", "scoring", "data")
_RESULTS = Path(__file__).with_name("RESULTS.md")
_PACKAGES = ("torch", "lightning", "transformers", "datasets", "tokenizers")


def main() -> None:
    """Run the parts that were asked for and print their figures; a run of all parts replaces RESULTS.md."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=_PARTS, default=list(_PARTS), help="default: all")
    parser.add_argument("--repeats", type=int, default=3, help="after a round that is thrown away")
    arguments = parser.parse_args()
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    start, found = time.perf_counter(), []
    for part in arguments.parts:
        found += importlib.import_module(f"tests.benchmarks.{part}").figures(arguments.repeats)
        Console().print(_table(found))
    if set(arguments.parts) == set(_PARTS):
        _RESULTS.write_text(_report(found, arguments.repeats, (time.perf_counter() - start) / 60))


def _table(found: list[Figure]) -> Table:
    table = Table("figure", "median", "repeats", "bar", "met", "")
    for f in found:
        table.add_row(f.name, f"{f.value:.2f}", f"{f.low:.2f} to {f.high:.2f}", f.bar or "", f.met, f.note)
    return table


def _machine() -> str:
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    return (
        f"{names[0] if names else platform.processor()}, {len(os.sched_getaffinity(0))} cores, "
        f"{torch.get_num_threads()} threads, CPU only; Python {platform.python_version()}, {versions}"
    )


def _report(found: list[Figure], repeats: int, minutes: float) -> str:
    lines = [
        "# Benchmarks",
        "",
        f"`python -m tests.benchmarks --repeats {repeats}` wrote this file in {minutes:.0f} minutes.",
        "",
        f"{_machine()}.",
        "",
        "Ratios of medians; of each, the smallest and largest ratio of its interleaved repeats. The model has",
        "SmolLM2-135M's shape, a vocabulary of 49,152 and rows of 512 tokens, unless a line says otherwise.",
        "",
        "| figure | median | repeats | bar | met | |",
        "|---|---|---|---|---|---|",
        *(
            f"| {f.name} | {f.value:.2f} | {f.low:.2f} to {f.high:.2f} | {f.bar or ''} | {f.met} | {f.note} |"
            for f in found
        ),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
