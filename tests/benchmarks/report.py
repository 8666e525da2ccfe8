"""RESULTS.md: the latest figures of each part, with where and when they were measured; a part's run leaves the others.

``results/PART.json`` holds a part's figures, and RESULTS.md is made of these files alone.
"""

import datetime
import importlib.metadata
import json
import os
import platform
from dataclasses import asdict
from pathlib import Path

import torch

from tests.benchmarks.measure import Figure
from tests.faults.tables import REVISION

PARTS = ("loss", "signals", "steps", "lab", "scoring", "data", "preparing")
_HERE = Path(__file__).parent
_PACKAGES = ("torch", "lightning", "transformers", "datasets", "tokenizers")
_HEAD = """# Benchmarks

`python -m tests.benchmarks` writes this file; a run of one part leaves the figures of the others.

Ratios of medians; of each, the smallest and largest ratio of its interleaved repeats. The model has
SmolLM2-135M's shape, a vocabulary of 49,152 and rows of 512 tokens, unless a line says otherwise.
"""
_COLUMNS = """
| figure | median | repeats | bar | met | |
|---|---|---|---|---|---|
"""


def write_results(part: str, found: list[Figure], repeats: int, directory: Path = _HERE) -> None:
    """Keep a part's figures with this machine, date and revision, and make RESULTS.md anew.

    Args:
        part: one of ``PARTS``.
        found: its figures.
        repeats: interleaved repeats behind each of them.
        directory: of RESULTS.md.
    """
    content = {
        "machine": _machine(),
        "date": str(datetime.date.today()),
        "revision": REVISION,
        "repeats": repeats,
        "figures": [asdict(figure) for figure in found],
    }
    file = _kept(directory, part)
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n")
    (directory / "RESULTS.md").write_text("\n".join([_HEAD, *(_section(directory, part) for part in PARTS)]))


def _section(directory: Path, part: str) -> str:
    file = _kept(directory, part)
    if not file.exists():
        return f"## `{part}`\n\nNot run.\n"
    kept = json.loads(file.read_text())
    figures = [Figure(**figure) for figure in kept["figures"]]
    where = f"{kept['date']}, revision {kept['revision']}, {kept['repeats']} repeats. {kept['machine']}."
    rows = [
        f"| {f.name} | {f.value:.2f} | {f.low:.2f} to {f.high:.2f} | {f.bar or ''} | {f.met} | {f.note} |\n"
        for f in figures
    ]
    return f"## `{part}`\n\n{where}\n{_COLUMNS}{''.join(rows)}"


def _kept(directory: Path, part: str) -> Path:
    return directory / "results" / f"{part}.json"


def _machine() -> str:
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    return (
        f"{names[0] if names else platform.processor()}, {len(os.sched_getaffinity(0))} cores, "
        f"{torch.get_num_threads()} threads, CPU only; Python {platform.python_version()}, {versions}"
    )
