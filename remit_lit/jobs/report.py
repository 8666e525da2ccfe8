"""What a set of jobs is about to do, and the record of what it did."""

import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from remit_lit.jobs.job import Cell, all_cells, lineage
from remit_lit.jobs.scheduler import estimated_seconds
from remit_lit.runs.provenance import now, provenance


def write_record(output: Path, cells: Iterable[Cell]) -> None:
    """Write ``record.json``: command, versions, machine, and of each cell what decided it and what it took."""
    record = {
        **provenance(("torch", "transformers", "lightning", "scipy")),
        "machine": {"platform": platform.platform(), "cores": len(os.sched_getaffinity(0))},
        "ended": now(),
        "cells": lineage(cells),
    }
    (output / "record.json").write_text(json.dumps(record, indent=1, default=str) + "\n")


def print_plan(cells: Iterable[Cell], jobs: int, console: Console) -> None:
    """Each cell with its state and what it may take, by what others of its kind took."""
    cells = all_cells(cells)
    seconds = estimated_seconds(cells)
    shown = Table("cell", "state", "seconds")
    for cell in cells:
        expected = "" if cell.state == "done" else "unknown" if (s := seconds[cell.key]) is None else f"{s:.0f}"
        shown.add_row(cell.name, cell.state, expected)
    console.print(shown)
    known = sum(value for value in seconds.values() if value is not None) / jobs
    unknown = sum(value is None for value in seconds.values())
    said = [f"about {known / 60:.0f} minutes with {jobs} jobs"] if known else []
    said += [f"{unknown} of kinds that never ran here"] if unknown else []
    console.print(
        f"{len(cells)} cells, {len(seconds)} to run: {', and '.join(said) or 'all is there'}", highlight=False
    )
