"""Whether ours agrees with what the paper found: decided by two series of a figure, seed by seed."""

import math
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Literal, NamedTuple

import numpy as np

from remit_lit.evaluation.statistics import difference_over_seeds
from remit_lit.figures.lines import Line, Plot
from remit_lit.figures.settings import By
from remit_lit.tables.curves import Reached, tokens_until
from remit_lit.tables.summary import mean_over_blocks

Word = Literal["agrees", "agrees, but is smaller", "agrees, but is larger", "disagrees", "does not tell"]


class Compared(NamedTuple):
    """One method against another over the seeds that both have.

    Attributes:
        mean: difference of the means; of a ratio, the geometric mean; None where no seed could be compared.
        low: end of its 95 % interval, paired by seed; None with one seed, or where a seed is censored.
        high: the other end.
        seeds: that were compared.
        censored: of these, those in which a value is never reached, so that the mean is only a bound.
        over_blocks: the interval over the table's blocks, such as its bases; None without two of them.
    """

    mean: float | None
    low: float | None
    high: float | None
    seeds: int
    censored: int
    over_blocks: tuple[float, float] | None = None

    def word(self, *, ratio: bool, size: float | None = None) -> Word:
        """What it says of the first being higher, by as much as ``size`` where that is given."""
        even = 1.0 if ratio else 0.0
        if self.low is None or self.high is None or self.low <= even <= self.high:
            return "does not tell"
        if self.high < even:
            return "disagrees"
        if size is None or self.low <= size <= self.high:
            return "agrees"
        return "agrees, but is smaller" if self.high < size else "agrees, but is larger"


def compare(
    plot: Plot,
    higher: str,
    lower: str,
    *,
    by: By = "last",
    at: str | None = None,
    baseline: str | None = None,
    higher_is_better: bool = True,
    ratio: bool = False,
    blocks: Mapping[int, str] | None = None,
) -> Compared:
    """``higher`` less ``lower``, or how many times it is the other, paired by seed.

    Args:
        plot: the panel.
        higher: a method.
        lower: another.
        by: what is compared of each line, see :class:`remit_lit.figures.settings.Claim`.
        at: with ``last``, the stage.
        baseline: whose last point is to be reached.
        higher_is_better: of the measure, which says on which side a value is reached.
        ratio: compare logarithms.
        blocks: the block of each seed.
    """
    numbers: Mapping[By, Callable[[Line, Line | None], Reached | None]] = {
        "last": lambda line, _: _at(line, at),
        "mean": lambda line, _: Reached(fmean(value for _, value in line.points), False),
        "spread": lambda line, _: None if line.sd is None else Reached(line.sd, False),
        "reaching": lambda line, goal: _reaching(line, goal, higher_is_better),
    }
    first, second, goals = (plot.lines.get(method or "", {}) for method in (higher, lower, baseline))
    pairs = {
        seed: (ours, others)
        for seed in first
        if seed in second
        and (ours := numbers[by](first[seed], goals.get(seed))) is not None
        and (others := numbers[by](second[seed], goals.get(seed))) is not None
        and (not ratio or min(ours.value, others.value) > 0)
    }
    if not pairs:
        return Compared(None, None, None, 0, 0)
    censored = sum(ours.censored or others.censored for ours, others in pairs.values())
    values = np.array([(ours.value, others.value) for ours, others in pairs.values()])
    first_values, second_values = (np.log(values) if ratio else values).T
    back = math.exp if ratio else float
    mean = back((first_values - second_values).mean())
    if len(pairs) < 2 or censored:
        return Compared(mean, None, None, len(pairs), censored)
    interval = difference_over_seeds(first_values, second_values)
    by_block = mean_over_blocks(first_values - second_values, [blocks[seed] for seed in pairs]) if blocks else None
    over_blocks = None if by_block is None else (back(by_block.low), back(by_block.high))
    return Compared(mean, back(interval.low), back(interval.high), len(pairs), censored, over_blocks)


def _at(line: Line, place: str | None) -> Reached | None:
    value = line.points[-1][1] if place is None else dict(line.points).get(place)
    return None if value is None else Reached(value, False)


def _reaching(line: Line, goal: Line | None, higher_is_better: bool) -> Reached | None:
    """Where the line first is as good as the last point of ``goal``; None where there is no such line."""
    if goal is None:
        return None
    curve = [(float(at), value) for at, value in line.points]
    return tokens_until(curve, goal.points[-1][1], higher_is_better=higher_is_better)
