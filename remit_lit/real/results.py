"""What the study found: one JSON file with everything, and the tables that are printed from it."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from remit_lit.evaluation.statistics import Interval, difference_over_items
from remit_lit.real.corpus import TRAINED_ON_NOTICE
from remit_lit.real.heldout import ItemScores

REFERENCE, DEGRADED = "reference", "degraded"
INTERVAL_NOTICE = (
    "Intervals: 95 %, item-paired bootstrap-t. They are over items alone; there is one training seed and one noise "
    "seed, so an interval that excludes 0 is a sign and not a result."
)


@dataclass
class Results:
    """Scores by model and benchmark, with what is needed to repeat them."""

    settings: dict[str, Any]
    scores: dict[str, dict[str, ItemScores]] = field(default_factory=dict)
    """model name -> benchmark title -> per-item scores; the reference and the degraded model first, then the arms."""
    seconds: dict[str, float] = field(default_factory=dict)
    """stage -> wall-clock seconds, in the order in which stages ran."""

    @property
    def arms(self) -> list[str]:
        return [name for name in self.scores if name not in (REFERENCE, DEGRADED)]

    def comparisons(self) -> list[tuple[str, str]]:
        """(model, baseline): the first arm against the degraded model, every further arm against the first."""
        arms = self.arms
        return [(arm, arms[0] if index else DEGRADED) for index, arm in enumerate(arms)]

    def difference(self, model: str, baseline: str, benchmark: str) -> Interval:
        """Pooled bits per byte of `model` minus those of `baseline`; negative where `model` is better."""
        scored, other = self.scores[model][benchmark], self.scores[baseline][benchmark]
        return difference_over_items(scored.bits / scored.n_bytes, other.bits / scored.n_bytes, scored.n_bytes)

    def write(self, path: Path) -> None:
        """Save everything as JSON: notices, versions, settings, seconds, and per-item values."""
        benchmarks = list(next(iter(self.scores.values())))
        content = {
            "notices": [TRAINED_ON_NOTICE, INTERVAL_NOTICE],
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in ("torch", "transformers", "lightning", "datasets", "tokenizers")},
            "machine": {"processor": platform.machine(), "cpus": os.cpu_count()},
            "settings": self.settings,
            "seconds": self.seconds,
            "bits_per_byte": {
                benchmark: {name: scores[benchmark].bits_per_byte for name, scores in self.scores.items()}
                for benchmark in benchmarks
            },
            "differences": {
                f"{model} - {baseline}": {b: asdict(self.difference(model, baseline, b)) for b in benchmarks}
                for model, baseline in self.comparisons()
            },
            "items": {
                name: {b: {"bits": s.bits.tolist(), "bytes": s.n_bytes.tolist()} for b, s in scores.items()}
                for name, scores in self.scores.items()
            },
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")


def print_results(results: Results, console: Console) -> None:
    """Print held-out bits per byte, the differences with their intervals, seconds by stage, and the notices."""
    console.print("\nHeld-out bits per byte of the gold answers, pooled over items; lower is better")
    console.print(_scores_table(results))
    console.print("\nDifference in bits per byte and its interval; negative: the first is better; *: 0 is outside")
    console.print(_differences_table(results))
    console.print("\nWall-clock time")
    console.print(_seconds_table(results.seconds))
    console.print(INTERVAL_NOTICE, TRAINED_ON_NOTICE, sep="\n", soft_wrap=True)


def _scores_table(results: Results) -> Table:
    table = Table()
    table.add_column("benchmark")
    for name in ("items", *results.scores):
        table.add_column(name, justify="right")
    for benchmark, first in next(iter(results.scores.values())).items():
        values = [f"{scores[benchmark].bits_per_byte:.4f}" for scores in results.scores.values()]
        table.add_row(benchmark, str(len(first.bits)), *values)
    return table


def _differences_table(results: Results) -> Table:
    table = Table()
    table.add_column("benchmark")
    for model, baseline in results.comparisons():
        table.add_column(f"{model} - {baseline}", justify="right")
    for benchmark in next(iter(results.scores.values())):
        cells = [_cell(results.difference(model, base, benchmark)) for model, base in results.comparisons()]
        table.add_row(benchmark, *cells)
    return table


def _cell(difference: Interval) -> str:
    mark = "*" if difference.excludes_zero else " "
    return f"{difference.mean:+.4f} ({difference.low:+.4f} to {difference.high:+.4f}){mark}"


def _seconds_table(seconds: Mapping[str, float]) -> Table:
    table = Table()
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    for stage, value in seconds.items():
        table.add_row(stage, f"{value:.1f}")
    table.add_section()
    table.add_row("all", f"{sum(seconds.values()):.1f}")
    return table
