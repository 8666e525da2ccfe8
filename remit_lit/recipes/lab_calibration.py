"""Whether the lab's statistics keep what they promise, by studies redrawn from runs that differ in nothing.

Every study draws two arms of next-token prediction for each run of a table such as
``experiments/tables/calibration.yaml`` and compares them as a table compares two methods. There is nothing to find, so
5 % of the studies may find something; and 95 % of the intervals must cover the mean of all runs.
"""

import csv
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from remit_lit.errors import ConfigError
from remit_lit.evaluation.results import Floats
from remit_lit.evaluation.statistics import Interval, Support, difference_over_seeds, over_seeds
from remit_lit.tables.summary import mean_over_blocks

LEVEL = 0.05


@dataclass(frozen=True)
class Arms:
    """The runs of one row of a table whose methods do not differ.

    Attributes:
        values: [arms, runs], in the units shown.
        blocks: of the runs, e.g. their base.
        support: of the values once divided by ``scale``.
        scale: 100 for percent.
    """

    values: Floats
    blocks: list[str]
    support: Support
    scale: float


class Share(NamedTuple):
    """A share of studies with its own 95 % interval (Wilson), as if studies shared no run."""

    share: float
    low: float
    high: float


def read_arms(seeds: Path, block: str = "base_seed") -> dict[str, Arms]:
    """The rows of a table's ``seeds.csv``, by title.

    Raises:
        ConfigError: no such file, fewer than two arms, or arms with other runs than the first.
    """
    try:
        lines = [line for line in csv.DictReader(seeds.read_text().splitlines()) if line["value"]]
    except FileNotFoundError:
        raise ConfigError(
            f"calibrate: no file {seeds}; make it with `table --config experiments/tables/calibration.yaml`"
        ) from None
    found: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for line in lines:
        found[line["row_title"]][line["column"]][line["seed"]] = float(line["value"])
    blocks = {line["seed"]: line[block] for line in lines}
    better = {line["row_title"]: line["higher_is_better"] for line in lines}
    return {title: _arms(seeds, title, columns, blocks, better[title]) for title, columns in found.items()}


def _arms(
    seeds: Path, title: str, columns: Mapping[str, Mapping[str, float]], blocks: Mapping[str, str], better: str
) -> Arms:
    runs = list(next(iter(columns.values())))
    if len(columns) < 2 or any(list(values) != runs for values in columns.values()):
        raise ConfigError(f"calibrate: {seeds}: {title!r} needs two arms or more, each with the same runs")
    is_share = better == "True"
    values = np.array([[column[run] for run in runs] for column in columns.values()])
    return Arms(values, [blocks[run] for run in runs], "share" if is_share else "positive", 100.0 if is_share else 1.0)


def false_findings(arms: Arms, studies: int, seed: int = 0) -> dict[str, Share]:
    """Share of A/A studies that find a difference at 5 %, by the test over runs and by that over blocks."""
    rng = np.random.default_rng(seed)
    found: dict[str, int] = defaultdict(int)
    for _ in range(studies):
        one, other = _two_arms(arms, rng)
        found["over runs"] += _is_found(difference_over_seeds(one, other))
        by_block = mean_over_blocks(one - other, arms.blocks)
        found["over blocks"] += by_block is not None and _is_found(by_block)
    return {name: _share(count, studies) for name, count in found.items()}


def coverage(arms: Arms, studies: int, seed: int = 0) -> dict[str, Share]:
    """Share of intervals that cover the mean of all runs; each study draws its runs from all arms of their blocks."""
    rng, blocks = np.random.default_rng(seed), np.array(arms.blocks)
    pools = {name: arms.values[:, blocks == name].ravel() / arms.scale for name in dict.fromkeys(arms.blocks)}
    truth = float(np.mean([pool.mean() for pool in pools.values()]))

    def drawn() -> Floats:
        return np.array([rng.choice(pools[name]) for name in arms.blocks])

    kinds: dict[str, Callable[[], tuple[Interval, float]]] = {
        "mean over runs": lambda: (over_seeds(drawn(), arms.support), truth),
        "difference over runs": lambda: (difference_over_seeds(drawn(), drawn()), 0.0),
    }
    return {name: _share(sum(_covers(*make()) for _ in range(studies)), studies) for name, make in kinds.items()}


def _two_arms(arms: Arms, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """For each run the values of two arms drawn without replacement, both [runs]."""
    count, runs = arms.values.shape
    drawn = np.array([rng.permutation(count)[:2] for _ in range(runs)])  # [runs, 2]
    places = np.arange(runs)
    return arms.values[drawn[:, 0], places], arms.values[drawn[:, 1], places]


def _is_found(interval: Interval) -> bool:
    return interval.p_value is not None and interval.p_value < LEVEL


def _covers(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def _share(count: int, studies: int) -> Share:
    wilson = stats.binomtest(count, studies).proportion_ci(1 - LEVEL, method="wilson")
    return Share(count / studies, float(wilson.low), float(wilson.high))


def report(seeds: Path, studies: int) -> str:
    """Both as a Markdown table.

    Args:
        seeds: ``seeds.csv`` of the table.
        studies: how many to redraw; at least 200.

    Raises:
        ConfigError: as :func:`read_arms`, or fewer studies.
    """
    if studies < 200:
        raise ConfigError(f"calibrate: --studies: got {studies}; give at least 200")
    lines = ["| row | of | what | share, % | 95 % interval | aim, % |", "|---|---|---|---:|---|---:|"]
    rows = read_arms(seeds)
    for title, arms in rows.items():
        for what, measured, aim in (
            ("A/A studies that find a difference", false_findings(arms, studies), 5),
            ("95 % intervals that cover the truth", coverage(arms, studies), 95),
        ):
            lines += [
                f"| {title} | {name} | {what} | {100 * share:.1f} | {100 * low:.1f} to {100 * high:.1f} | {aim} |"
                for name, (share, low, high) in measured.items()
            ]
    count, runs = next(iter(rows.values())).values.shape
    return "\n".join([*lines, "", f"{studies:,} studies redrawn from {count} arms of {runs} runs."])
