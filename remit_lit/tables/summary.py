"""The statistics of a table: means, intervals, differences from the baseline, and which figure is in bold."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from remit_lit.errors import ConfigError, DataError, not_among
from remit_lit.evaluation.results import Floats, Metric
from remit_lit.evaluation.statistics import (
    RESAMPLES,
    Interval,
    Support,
    difference_over_items,
    difference_over_seeds,
    holm,
    over_items,
    over_seeds,
    support_of,
)
from remit_lit.tables.contents import Contents, Entry, Row
from remit_lit.tables.curves import Reached, log_mean

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Difference:
    """A cell minus the baseline's cell of the same row, in the units shown, over the seeds that both have.

    Attributes:
        mean: over seeds.
        n_seeds: number of seeds that both have.
        over_seeds: paired by seed; None with one seed.
        over_items: paired by item, averaged over seeds; None with one item.
        p_value: over seeds if there are two or more, else over items; None where no test applies.
        p_holm: of a secondary comparison the same, adjusted over all methods that its row compares; of the primary one,
            which is a question of its own, the same unadjusted.
        primary: whether it is the comparison that the table was registered for.
        over_blocks: of the blocks' mean differences; None with fewer than two blocks.
    """

    mean: float
    n_seeds: int
    over_seeds: Interval | None
    over_items: Interval | None
    p_value: float | None
    p_holm: float | None = None
    primary: bool = False
    over_blocks: Interval | None = None


@dataclass(frozen=True)
class Cell:
    """The statistics of one method in one row, in the units shown.

    Attributes:
        values: by seed.
        missing: by seed, why there is no value.
        censored: by seed, why its value is only a bound.
        bound: on which side of the mean the true one lies, where a seed is censored; None where none is.
        n_items: of each seed.
        mean: over seeds; None without any value.
        interval: of the mean; None where there is one seed and one item.
        over: what the interval is taken over.
        difference: from the baseline; None for the baseline itself, where the two share no seed, and in rows that are
            not compared.
        published: the figure from the literature.
        bold: best in its row, and better than the baseline by the adjusted test; both with all their seeds.
    """

    values: Mapping[int, float] = field(default_factory=dict)
    missing: Mapping[int, str] = field(default_factory=dict)
    censored: Mapping[int, str] = field(default_factory=dict)
    bound: Literal["at least", "at most"] | None = None
    n_items: int = 0
    mean: float | None = None
    interval: Interval | None = None
    over: Literal["seeds", "items"] | None = None
    difference: Difference | None = None
    published: float | None = None
    bold: bool = False

    @property
    def planned(self) -> int:
        """Number of seeds that there should be."""
        return len(self.values) + len(self.missing)


@dataclass(frozen=True)
class Summary:
    """A table with its statistics.

    Attributes:
        contents: what it summarizes.
        cells: by (row, column), one for each.
        higher_is_better: by row; None where neither is, or there is no metric.
        ranges: by row, the least and the most that a figure can be, in the units shown; infinite where there is no end.
    """

    contents: Contents
    cells: Mapping[tuple[str, str], Cell]
    higher_is_better: Mapping[str, bool | None]
    ranges: Mapping[str, tuple[float, float]]


def summarize(contents: Contents, *, resamples: int = RESAMPLES) -> Summary:
    """Everything that the table shows, in the units shown.

    The primary comparison is tested alone. All others are secondary, and Holm's correction is over the methods that a
    row compares with the baseline. Rows in which neither direction is better, e.g. a loss on noise, have differences
    but no tests.

    Args:
        contents: the figures.
        resamples: of each bootstrap over items.

    Raises:
        ConfigError: the baseline is no column.
        DataError: the metrics of one row were not measured on the same items, or differ in direction.
    """
    if contents.baseline is not None and contents.baseline not in contents.columns:
        raise ConfigError(f"baseline: {not_among(contents.baseline, contents.columns)}")
    cells: dict[tuple[str, str], Cell] = {}
    directions, ranges = {}, {}
    for name, row in contents.rows.items():
        entries = {column: _finite(contents.entries.get((name, column), Entry())) for column in contents.columns}
        directions[name] = _direction(name, entries)
        support = _support(entries, directions[name])
        ranges[name] = (-math.inf if support == "real" else 0.0, row.scale if support == "share" else math.inf)
        base = entries.get(contents.baseline or "", Entry())
        for column, entry in entries.items():
            cell = _cell(entry, row, support, resamples)
            if column != contents.baseline and row.compared:
                difference = _difference(entry, base, row, resamples, contents.blocks)
                if difference is not None:
                    p_value = None if directions[name] is None else difference.p_value
                    difference = replace(difference, p_value=p_value, primary=_is_primary(contents, name, column))
                cell = replace(cell, difference=difference)
            cells[name, column] = replace(cell, published=contents.published.get((name, column)))
    for name in contents.rows:
        if directions[name] is not None:
            _adjust(cells, name, list(contents.columns))
        _embolden(cells, name, contents, directions[name])
    return Summary(contents, cells, directions, ranges)


def _finite(entry: Entry) -> Entry:
    """The entry with NaN and infinite metrics counted as missing, so that no mean hides a seed that diverged."""
    finite = {seed: metric for seed, metric in sorted(entry.metrics.items()) if math.isfinite(metric.value)}
    diverged = {seed: f"not finite: {metric.value}" for seed, metric in entry.metrics.items() if seed not in finite}
    return replace(entry, metrics=finite, missing=dict(sorted({**entry.missing, **diverged}.items())))


def _is_primary(contents: Contents, row: str, column: str) -> bool:
    return contents.primary is not None and (contents.primary.row, contents.primary.method) == (row, column)


def _support(entries: Mapping[str, Entry], higher_is_better: bool | None) -> Support:
    outcomes = [metric.outcomes for entry in entries.values() for metric in entry.metrics.values()]
    return support_of(outcomes, higher_is_better)


def _direction(row: str, entries: Mapping[str, Entry]) -> bool | None:
    """Whether higher is better, after a check that all metrics of the row can be compared."""
    metrics = {
        f"{column}, seed {seed}": metric for column, entry in entries.items() for seed, metric in entry.metrics.items()
    }
    if not metrics:
        return None
    first_name, first = next(iter(metrics.items()))
    for name, metric in metrics.items():
        if metric.higher_is_better != first.higher_is_better:
            raise DataError(f"rows.{row}: higher_is_better differs between {first_name} and {name}")
        same = metric.outcomes.shape == first.outcomes.shape and metric.items == first.items
        if not same or not _same_weights(metric, first):
            raise DataError(
                f"rows.{row}: {first_name} ({len(first.outcomes)} items) and {name} ({len(metric.outcomes)} items) "
                "were not measured on the same items with the same weights in the same order; evaluate both alike"
            )
    return first.higher_is_better


def _same_weights(one: Metric, other: Metric) -> bool:
    if one.weights is None or other.weights is None:
        return one.weights is other.weights
    return np.array_equal(one.weights, other.weights)


def _outcomes(entry: Entry, seeds: list[int]) -> Floats:
    """[seeds, items]"""
    return np.stack([entry.metrics[seed].outcomes for seed in seeds])


def _values(entry: Entry, seeds: list[int]) -> Floats:
    """[seeds]"""
    return np.array([entry.metrics[seed].value for seed in seeds])


def _cell(entry: Entry, row: Row, support: Support, resamples: int) -> Cell:
    seeds = list(entry.metrics)[: 1 if entry.fixed else None]
    if not seeds:
        return Cell(missing=entry.missing)
    first = entry.metrics[seeds[0]]
    values = _values(entry, seeds)
    mean, interval = float(values.mean()), None
    over: Literal["seeds", "items"] | None = None
    if row.log:
        reached = [Reached(float(v), seed in entry.censored) for seed, v in zip(seeds, values, strict=True)]
        mean, interval, *_ = log_mean(reached)
    elif len(seeds) > 1:
        interval = over_seeds(values, support)
    elif len(first.outcomes) > 1:
        interval, over = over_items(first.outcomes, first.weights, resamples=resamples, support=support), "items"
    if interval is not None:
        interval, over = interval.scaled(row.scale), over or "seeds"
    return Cell(
        values={seed: float(value) * row.scale for seed, value in zip(seeds, values, strict=True)},
        missing=entry.missing,
        censored=entry.censored,
        bound=entry.bound if entry.censored else None,
        n_items=len(first.outcomes),
        mean=mean * row.scale,
        interval=interval,
        over=over,
    )


def _difference(entry: Entry, base: Entry, row: Row, resamples: int, blocks: Mapping[int, str]) -> Difference | None:
    seeds = [seed for seed in entry.metrics if seed in base.metrics]
    if not seeds:
        return None
    values, others = _values(entry, seeds), _values(base, seeds)
    by_seed = by_item = None
    if len(seeds) > 1:
        by_seed = difference_over_seeds(values, others).scaled(row.scale)
    first = entry.metrics[seeds[0]]
    if len(first.outcomes) > 1:
        outcomes, baseline = _outcomes(entry, seeds), _outcomes(base, seeds)
        by_item = difference_over_items(outcomes, baseline, first.weights, resamples=resamples).scaled(row.scale)
    primary = by_seed or by_item
    mean = float((values - others).mean()) * row.scale
    p_value = None if primary is None else primary.p_value
    by_block = mean_over_blocks(values - others, [blocks[seed] for seed in seeds]) if blocks else None
    over_blocks = None if by_block is None else by_block.scaled(row.scale)
    return Difference(mean, len(seeds), by_seed, by_item, p_value, over_blocks=over_blocks)


def mean_over_blocks(differences: Floats, blocks: list[str]) -> Interval | None:
    """Of the mean differences of the blocks, which other blocks would have too; ``differences`` is [seeds]."""
    of_block = [differences[[block == name for block in blocks]].mean() for name in dict.fromkeys(blocks)]
    return difference_over_seeds(np.array(of_block), np.zeros(len(of_block))) if len(of_block) > 1 else None


def _adjust(cells: dict[tuple[str, str], Cell], row: str, columns: list[str]) -> None:
    """Holm's correction over the methods of a row; a comparison to which no test applies counts as one with p = 1."""
    compared = {column: found for column in columns if (found := cells[row, column].difference) is not None}
    secondary = {column: difference for column, difference in compared.items() if not difference.primary}
    adjusted = holm([1.0 if difference.p_value is None else difference.p_value for difference in secondary.values()])
    for column, difference in compared.items():
        p_holm = difference.p_value if difference.primary else adjusted[list(secondary).index(column)]
        if difference.p_value is not None:
            cells[row, column] = replace(cells[row, column], difference=replace(difference, p_holm=p_holm))


def _embolden(cells: dict[tuple[str, str], Cell], row: str, contents: Contents, higher: bool | None) -> None:
    if higher is None:
        return
    sign = 1 if higher else -1
    base = cells[row, contents.baseline or next(iter(contents.columns))]
    means = {column: sign * cell.mean for column in contents.columns if (cell := cells[row, column]).mean is not None}
    for column, mean in means.items():
        difference = cells[row, column].difference
        if difference is None or difference.p_holm is None:
            continue
        better = difference.p_holm < SIGNIFICANT and sign * difference.mean > 0
        complete = not cells[row, column].missing and not base.missing
        if better and complete and mean == max(means.values()):
            cells[row, column] = replace(cells[row, column], bold=True)
