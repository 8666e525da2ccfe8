"""How ``log p_reference - log p_model`` is distributed over tokens: counted batch by batch, in fixed bins."""

import math

import numpy as np

from remit_lit.evaluation.results import Floats, Histogram

LOW, HIGH, BINS = -10.0, 10.0, 400
"""In nats. Fixed, so that models and runs can be laid over each other. A bin is 0.05 nats wide: an eighth of the 0.4
nats at which ReMiT's clip at 0.2 begins."""


class LogRatios:
    """The distribution of the log ratios seen so far, in float64."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS)
        self.total = self.squares = 0.0

    def add(self, values: Floats) -> None:
        """Count more tokens; ``values`` is [tokens], in nats and finite."""
        places = np.floor((values - LOW) / (HIGH - LOW) * BINS).clip(0, BINS - 1).astype(np.int64)
        self.counts += np.bincount(places, minlength=BINS)
        self.total += float(values.sum())
        self.squares += float(np.square(values).sum())

    def histogram(self) -> Histogram:
        """Of all tokens so far; without any, mean and deviation are 0."""
        tokens = max(1.0, float(self.counts.sum()))
        mean = self.total / tokens
        return Histogram(LOW, HIGH, self.counts, mean, math.sqrt(max(0.0, self.squares / tokens - mean**2)))
