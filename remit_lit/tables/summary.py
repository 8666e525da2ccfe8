"""The statistics of a table: means, intervals, differences from the baseline, and which figure is in bold."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from remit_lit.errors import ConfigError, DataError
from remit_lit.evaluation.results import Floats, Metric
from remit_lit.evaluation.statistics import (
    RESAMPLES,
    Interval,
    difference_over_items,
    difference_over_seeds,
    holm,
    over_items,
    over_seeds,
)
from remit_lit.tables.contents import Contents, Entry, Row

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Difference:
    """A cell minus the baseline's cell of the same row, in the units shown, over the seeds that both have.

    Attributes:
        mean: over seeds.
        n_seeds: number of seeds that both have.
        over_seeds: paired by seed; None with one seed.
        over_items: paired by item, averaged over seeds; None with one item.
        p_value: of the primary test: over seeds if there are two or more, else over items; None where no test applies.
        p_holm: the same, adjusted over all tested rows of the column.
    """

    mean: float
    n_seeds: int
    over_seeds: Interval | None
    over_items: Interval | None
    p_value: float | None
    p_holm: float | None = None


@dataclass(frozen=True)
class Cell:
    """The statistics of one method in one row, in the units shown.

    Attributes:
        values: by seed.
        missing: by seed, why there is no value.
        n_items: of each seed.
        mean: over seeds; None without any value.
        interval: of the mean; None where there is one seed and one item.
        over: what the interval is taken over.
        difference: from the baseline; None for the baseline itself, where the two share no seed, and in rows that are
            not compared.
        published: the figure from the literature.
        bold: best in its row, and better than the baseline by the adjusted primary test; both with all their seeds.
    """

    values: Mapping[int, float] = field(default_factory=dict)
    missing: Mapping[int, str] = field(default_factory=dict)
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
    """

    contents: Contents
    cells: Mapping[tuple[str, str], Cell]
    higher_is_better: Mapping[str, bool | None]


def summarize(contents: Contents, *, resamples: int = RESAMPLES) -> Summary:
    """Everything that the table shows, in the units shown.

    Rows in which neither direction is better, e.g. a loss on noise, have differences but no tests, and do not count in
    Holm's correction.

    Args:
        contents: the figures.
        resamples: of each bootstrap over items.

    Raises:
        ConfigError: the baseline is no column.
        DataError: the metrics of one row were not measured on the same items, or differ in direction.
    """
    if contents.baseline is not None and contents.baseline not in contents.columns:
        raise ConfigError(f"baseline: got {contents.baseline!r}; give one of {', '.join(contents.columns)}")
    cells: dict[tuple[str, str], Cell] = {}
    directions = {}
    for name, row in contents.rows.items():
        entries = {column: _finite(contents.entries.get((name, column), Entry())) for column in contents.columns}
        directions[name] = _direction(name, entries)
        base = entries.get(contents.baseline or "", Entry())
        for column, entry in entries.items():
            cell = _cell(entry, row, resamples)
            if column != contents.baseline and row.compared:
                difference = _difference(entry, base, row, resamples)
                if difference is not None and directions[name] is None:
                    difference = replace(difference, p_value=None)
                cell = replace(cell, difference=difference)
            cells[name, column] = replace(cell, published=contents.published.get((name, column)))
    for column in contents.columns:
        _adjust(cells, [name for name in contents.rows if directions[name] is not None], column)
    for name in contents.rows:
        _embolden(cells, name, contents, directions[name])
    return Summary(contents, cells, directions)


def _finite(entry: Entry) -> Entry:
    """The entry with NaN and infinite metrics counted as missing, so that no mean hides a seed that diverged."""
    finite = {seed: metric for seed, metric in sorted(entry.metrics.items()) if math.isfinite(metric.value)}
    diverged = {seed: f"not finite: {metric.value}" for seed, metric in entry.metrics.items() if seed not in finite}
    return Entry(finite, dict(sorted({**entry.missing, **diverged}.items())), entry.fixed)


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


def _cell(entry: Entry, row: Row, resamples: int) -> Cell:
    seeds = list(entry.metrics)[: 1 if entry.fixed else None]
    if not seeds:
        return Cell(missing=entry.missing)
    first = entry.metrics[seeds[0]]
    values = _values(entry, seeds)
    interval: Interval | None = None
    over: Literal["seeds", "items"] | None = None
    if len(seeds) > 1:
        interval, over = over_seeds(values).scaled(row.scale), "seeds"
    elif len(first.outcomes) > 1:
        interval, over = over_items(first.outcomes, first.weights, resamples=resamples).scaled(row.scale), "items"
    return Cell(
        values={seed: float(value) * row.scale for seed, value in zip(seeds, values, strict=True)},
        missing=entry.missing,
        n_items=len(first.outcomes),
        mean=float(values.mean()) * row.scale,
        interval=interval,
        over=over,
    )


def _difference(entry: Entry, base: Entry, row: Row, resamples: int) -> Difference | None:
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
    return Difference(mean, len(seeds), by_seed, by_item, None if primary is None else primary.p_value)


def _adjust(cells: dict[tuple[str, str], Cell], rows: list[str], column: str) -> None:
    """Holm's correction over the rows of a column; a comparison to which no test applies counts as one with p = 1."""
    compared = {row: difference for row in rows if (difference := cells[row, column].difference) is not None}
    p_values = [1.0 if difference.p_value is None else difference.p_value for difference in compared.values()]
    for (row, difference), p_holm in zip(compared.items(), holm(p_values), strict=True):
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
