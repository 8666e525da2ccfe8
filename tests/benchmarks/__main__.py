"""``python -m tests.benchmarks``: every figure as one table, also written to RESULTS.md beside this file.

``python -m tests.benchmarks gpu`` measures on a GPU instead (``gpu.py``).

Each part's figures are kept in ``.cache/benchmarks``, so that one part can be measured anew.
"""

import argparse
import importlib
import importlib.metadata
import json
import logging
import os
import platform
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from tests.benchmarks import gpu
from tests.benchmarks.measure import Figure
from tests.benchmarks.setting import CACHE

_PARTS = ("loss", "steps", "scoring", "data")
_RESULTS = Path(__file__).with_name("RESULTS.md")
_PACKAGES = ("torch", "lightning", "transformers", "datasets", "tokenizers")


def main() -> None:
    """Run the parts that were asked for and print their figures; RESULTS.md has the latest of each part."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=(*_PARTS, "all"), default="all")
    parser.add_argument("--repeats", type=int, default=3, help="after a round that is thrown away")
    arguments = parser.parse_args()
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    CACHE.mkdir(parents=True, exist_ok=True)
    for part in _PARTS if "all" in arguments.parts else arguments.parts:
        found: list[Figure] = importlib.import_module(f"tests.benchmarks.{part}").figures(arguments.repeats)
        Console(width=160).print(_table(found))
        content = {"machine": _machine(), "repeats": arguments.repeats, "figures": [asdict(f) for f in found]}
        _kept(part).write_text(json.dumps(content))
        _RESULTS.write_text(_report())


def _kept(part: str) -> Path:
    return CACHE / f"figures-{part}.json"


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


def _report() -> str:
    parts = [json.loads(_kept(part).read_text()) for part in _PARTS if _kept(part).exists()]
    missing = [part for part in _PARTS if not _kept(part).exists()]
    figures = [Figure(**figure) for part in parts for figure in part["figures"]]
    machines = sorted({f"{part['machine']}; {part['repeats']} repeats" for part in parts})
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "`python -m tests.benchmarks` wrote this file.",
            "",
            *(f"{machine}." for machine in machines),
            "",
            "Ratios of medians; of each, the smallest and largest ratio of its interleaved repeats. The model has",
            "SmolLM2-135M's shape, a vocabulary of 49,152 and rows of 512 tokens, unless a line says otherwise.",
            "",
            "| figure | median | repeats | bar | met | |",
            "|---|---|---|---|---|---|",
            *(
                f"| {f.name} | {f.value:.2f} | {f.low:.2f} to {f.high:.2f} | {f.bar or ''} | {f.met} | {f.note} |"
                for f in figures
            ),
            *(f"| part `{part}` | not run | | | | |" for part in missing),
            "",
        ]
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["gpu"]:
        gpu.main(sys.argv[2:])
    else:
        main()
