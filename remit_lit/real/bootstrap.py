"""Pooled bits per byte, and how far its differences could move with other items of the same benchmark."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """A difference of two models' pooled bits per byte on the same items, with its interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def pooled_bits_per_byte(bits: Floats, n_bytes: Floats) -> float:
    """All bits over all bytes: a long item counts for more than a short one. Both arguments are [items]."""
    return float(bits.sum() / n_bytes.sum())


def paired_difference(
    bits: Floats, baseline_bits: Floats, n_bytes: Floats, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Difference:
    """Pooled bits per byte of one model minus a baseline's, with a percentile bootstrap interval over items.

    Each resample draws items with replacement and takes both models' bits of the same drawn items, so what makes an
    item hard for both cancels. The interval is over items alone: it says nothing about other training seeds.

    Args:
        bits: [items] bits the model needs for each gold continuation.
        baseline_bits: [items] the same of the baseline.
        n_bytes: [items] UTF-8 bytes of each gold continuation.
        level: coverage of the interval.
        resamples: how often the items are redrawn.
        seed: of the redrawing.

    Raises:
        ValueError: shapes differ, or there are fewer than two items.
    """
    if not bits.shape == baseline_bits.shape == n_bytes.shape or bits.ndim != 1:
        raise ValueError(
            f"bits, baseline_bits, n_bytes: got shapes {bits.shape}, {baseline_bits.shape}, "
            f"{n_bytes.shape}; all must be [items]"
        )
    if len(bits) < 2:
        raise ValueError(f"bits: got {len(bits)} items; resampling needs at least 2")
    excess = bits - baseline_bits  # [items]
    drawn = np.random.default_rng(seed).integers(len(bits), size=(resamples, len(bits)))
    resampled = excess[drawn].sum(axis=1) / n_bytes[drawn].sum(axis=1)  # [resamples]
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Difference(mean=float(excess.sum() / n_bytes.sum()), low=float(low), high=float(high))
