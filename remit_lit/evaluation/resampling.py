"""The symmetric bootstrap-t over items, for figures that are neither counts nor from several seeds."""

import math
from typing import NamedTuple

import numpy as np

from remit_lit.evaluation.results import Floats

_CELLS_AT_A_TIME = 4_000_000
_LEAST_SPREAD = 0.25
"""A resample's standard error is at least this share of the sample's own: a resample that happens to hold equal items
alone has none, and its t would be infinite. No figure that does not come in a few steps feels it."""


class Resamples(NamedTuple):
    """What resampling found.

    Attributes:
        standard_error: of the mean over items, by linearisation (the delta method); 0 where all items are equal.
        t: [resamples] how many of its own standard errors each resample's mean lies from the sample's, ascending.
    """

    standard_error: float
    t: Floats


def resample_items(outcomes: Floats, weights: Floats, resamples: int, seed: int) -> Resamples:
    """Draw items with replacement and studentise the weighted mean ``sum(weights * outcomes) / sum(weights)``.

    A weight is drawn together with its outcome: how many bytes are drawn is as random as how many bits. Memory does not
    grow with ``resamples``; 10,000 resamples of 10,000 items take about a second.

    Davison and Hinkley, Bootstrap Methods and their Application (1997), section 5.2.1. Symmetric in t: in simulations
    with 60 items the percentile, BCa and equal-tailed t intervals all covered less.

    Args:
        outcomes: [items]
        weights: [items] above 0.
        resamples: how often all items are redrawn.
        seed: of the redrawing.
    """
    count = len(outcomes)
    mean = np.average(outcomes, weights=weights)
    excess = weights * (outcomes - mean)  # [items] sums to 0 over the sample
    standard_error = math.sqrt(np.square(excess).sum()) / weights.sum()
    if standard_error <= 1e-12 * np.abs(outcomes).max():
        return Resamples(0.0, np.zeros(resamples))
    terms = np.stack([excess, weights, excess**2, excess * weights, weights**2], axis=1)  # [items, 5]
    generator = np.random.default_rng(seed)
    at_a_time = max(1, _CELLS_AT_A_TIME // count)
    t = np.empty(resamples)
    for start in range(0, resamples, at_a_time):
        size = min(at_a_time, resamples - start)
        drawn = generator.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)  # [size, items]
        first, total, square, cross, weight_square = (times.astype(np.float64) @ terms).T  # each [size]
        shift = first / total  # the resample's mean less the sample's
        variance = square - 2 * shift * cross + shift**2 * weight_square  # of the excess over the resample's own mean
        spread = np.sqrt(np.maximum(variance, 0.0)) / total
        t[start : start + size] = np.abs(shift) / np.maximum(spread, _LEAST_SPREAD * standard_error)
    t.sort()
    return Resamples(standard_error, t)
