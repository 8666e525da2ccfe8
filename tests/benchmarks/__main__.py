"""``python -m tests.benchmarks [PART ...]``: every figure as one table, also written to RESULTS.md beside this file.

``python -m tests.benchmarks gpu`` measures on a GPU instead (``gpu.py``).
"""

import argparse
import importlib
import logging
import os
import sys
import warnings

from rich.console import Console
from rich.table import Table

from tests.benchmarks import gpu
from tests.benchmarks.measure import Figure
from tests.benchmarks.report import PARTS, write_results
from tests.benchmarks.setting import CACHE


def main() -> None:
    """Run the parts that were asked for and print their figures; RESULTS.md has the latest of each part."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=(*PARTS, "all"), default="all")
    parser.add_argument("--repeats", type=int, default=3, help="after a round that is thrown away")
    arguments = parser.parse_args()
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    CACHE.mkdir(parents=True, exist_ok=True)
    for part in PARTS if "all" in arguments.parts else arguments.parts:
        found: list[Figure] = importlib.import_module(f"tests.benchmarks.{part}").figures(arguments.repeats)
        Console(width=160).print(_table(found))
        write_results(part, found, arguments.repeats)


def _table(found: list[Figure]) -> Table:
    table = Table("figure", "median", "repeats", "bar", "met", "")
    for f in found:
        table.add_row(f.name, f"{f.value:.2f}", f"{f.low:.2f} to {f.high:.2f}", f.bar or "", f.met, f.note)
    return table


if __name__ == "__main__":
    if sys.argv[1:2] == ["gpu"]:
        gpu.main(sys.argv[2:])
    else:
        main()
