"""The panels of a report: which figures are drawn, in which section, and which are said in words alone."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from remit_lit.report.run import Run
from remit_lit.runs.metrics import Points
from remit_lit.runs.wording import is_share, title_of

# A figure belongs to the first section whose pattern its whole name fits.
_SECTIONS = {
    "": r"epoch|tokens_seen|num_tokens|total_flos|train_(runtime|loss|\w+_per_second)|lab/test_.*",
    "Loss": r"train/(loss|nll.*)|loss|entropy|mean_token_accuracy",
    "Validation": r"val/.*",
    "Tasks in the course of training": r"(lab|eval)/.*",
    "Rewards": r"reward.*|frac_reward.*|completions/.*|kl.*",
    "Learning rate and gradients": r"(train/)?(learning_rate|grad_norm)",
    "Weights": r"weights/.*",
    "Throughput": r"tokens_per_second|mfu|step_time",
    "Other figures": r".*",
}
_UNSEEN = ""
_FIRST = (
    *("train/loss", "loss", "train/nll", "val/nll", "lab/accuracy", "lab/probability", "train/learning_rate"),
    *("weights/mean", "weights/std", "weights/clipped_low", "weights/clipped_high", "weights/effective_share"),
)
_MOST_POINTS = 600
_DIGITS = 6


def sections_of(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Sections with their panels: a panel for each figure, with a line for each run that logged it.

    What is one and the same number all along, in all runs, is in no panel: ``constants`` says it in words.
    """
    found: dict[str, dict[str, Any]] = {}
    for figure in _ordered({figure for run in runs for figure in run.metrics}):
        section = next(name for name, pattern in _SECTIONS.items() if re.fullmatch(pattern, figure))
        values = {value for run in runs for _, value in run.metrics.get(figure, [])}
        longest = max(len(run.metrics.get(figure, [])) for run in runs)
        if section == _UNSEEN or (longest < 2 and len(runs) == 1):
            continue
        part = found.setdefault(section, {"title": section, "panels": [], "constants": []})
        if len(values) == 1:
            part["constants"].append(f"{title_of(figure)}: {next(iter(values)):.6g}")
        else:
            part["panels"].append(_panel(figure, runs))
    return [found[name] for name in _SECTIONS if name in found]


def _panel(figure: str, runs: Sequence[Run]) -> dict[str, Any]:
    lines = [(number, run.metrics[figure]) for number, run in enumerate(runs) if figure in run.metrics]
    return {
        "figure": figure,
        "title": title_of(figure),
        "isShare": is_share(figure),
        "notes": [*_notes(lines, runs)],
        "lines": [{"run": number, "points": thinned(points)} for number, points in lines],
    }


def _notes(lines: Sequence[tuple[int, Points]], runs: Sequence[Run]) -> Iterator[str]:
    for number, points in lines:
        odd = sum(not math.isfinite(value) for _, value in points)
        if odd:
            yield f"{runs[number].name}: {odd} of {len(points)} values are not finite"
        if len(points) > _MOST_POINTS:
            yield f"{runs[number].name}: each point is the mean of {-(-len(points) // _MOST_POINTS)} logged ones"


def thinned(points: Points) -> list[list[float | None]]:
    """[step, value] of at most 600 points: of more, each the mean of as many; null where one is not finite."""
    together = -(-len(points) // _MOST_POINTS)
    groups = [points[start : start + together] for start in range(0, len(points), together)] if points else []
    return [[group[-1][0], _mean([value for _, value in group])] for group in groups]


def _mean(values: Sequence[float]) -> float | None:
    mean = math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan
    return float(f"{mean:.{_DIGITS}g}") if math.isfinite(mean) else None


def _ordered(figures: set[str]) -> list[str]:
    first = [figure for figure in _FIRST if figure in figures]
    return [*first, *sorted(figures - set(first))]
