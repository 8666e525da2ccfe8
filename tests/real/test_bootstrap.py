import numpy as np
import pytest

from remit_lit.real.bootstrap import paired_difference, pooled_bits_per_byte


def test_pooled_is_not_the_mean_of_items():
    bits, n_bytes = np.array([10.0, 90.0]), np.array([10.0, 30.0])
    assert pooled_bits_per_byte(bits, n_bytes) == 2.5
    assert (bits / n_bytes).mean() == 2.0


def test_the_same_scores_differ_by_nothing():
    bits, n_bytes = np.arange(1.0, 20.0), np.full(19, 7.0)
    difference = paired_difference(bits, bits, n_bytes)
    assert (difference.mean, difference.low, difference.high) == (0, 0, 0)
    assert not difference.excludes_zero


def test_pairing_removes_what_makes_items_hard():
    rng = np.random.default_rng(0)
    n_bytes = rng.integers(20, 400, 60).astype(float)
    baseline = n_bytes * rng.uniform(0.2, 2.0, 60)
    difference = paired_difference(baseline - 0.01 * n_bytes, baseline, n_bytes)
    assert difference.low == pytest.approx(-0.01)
    assert difference.high == pytest.approx(-0.01)
    assert difference.excludes_zero


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    effect, simulations, covered = -0.02, 400, 0
    for seed in range(simulations):
        n_bytes = rng.lognormal(5.0, 0.7, 60)
        baseline = n_bytes * rng.uniform(0.4, 1.6, 60)
        bits = baseline + n_bytes * rng.normal(effect, 0.05, 60)
        found = paired_difference(bits, baseline, n_bytes, resamples=400, seed=seed)
        covered += found.low <= effect <= found.high
    # Percentile intervals of 60 items fall a little short of 95 %; three standard errors of 400 simulations are 3.3 %.
    assert 0.90 <= covered / simulations <= 0.985


def test_unequal_shapes_and_single_items_are_refused():
    with pytest.raises(ValueError, match=r"got shapes \(3,\), \(2,\), \(3,\)"):
        paired_difference(np.ones(3), np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="got 1 items"):
        paired_difference(np.ones(1), np.ones(1), np.ones(1))
