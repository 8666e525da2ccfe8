"""Intervals and p-values against scipy, definitions, and how often they are right in simulations."""

import tracemalloc
from collections.abc import Callable
from itertools import chain, combinations

import numpy as np
import pytest
from scipy import stats

from remit_lit.evaluation.results import Floats, Metric
from remit_lit.evaluation.statistics import (
    Interval,
    Support,
    difference_over_items,
    difference_over_seeds,
    holm,
    over_items,
    over_seeds,
    over_seeds_log,
    support_of,
)

ITEMS = 60


def test_the_mean_over_seeds_is_scipys_t_interval():
    values = np.random.default_rng(0).normal(0.4, 0.1, 5)
    found, expected = over_seeds(values), stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(values.mean())
    assert found.p_value is None


@pytest.mark.parametrize("values", [[0.1, 0.99, 0.98], [0.001, 0.0, 0.002], [0.999, 1.0, 0.99]])
def test_the_interval_of_a_share_stays_a_share(values: list[float]):
    plain, found = over_seeds(np.array(values)), over_seeds(np.array(values), "share")
    assert plain.low < 0 or plain.high > 1
    assert 0 < found.low < found.mean == plain.mean < found.high < 1
    # Symmetric in log odds, with the delta method's width.
    below, mean, above = (np.log(p / (1 - p)) for p in (found.low, found.mean, found.high))
    assert above - mean == pytest.approx(mean - below)
    assert above - mean == pytest.approx((plain.high - plain.mean) / (plain.mean * (1 - plain.mean)))


def test_the_interval_of_a_loss_stays_above_zero():
    values = np.array([0.05, 0.9, 0.1])
    plain, found = over_seeds(values), over_seeds(values, "positive")
    assert plain.low < 0 < found.low < found.mean == plain.mean < found.high
    assert found.high / found.mean == pytest.approx(found.mean / found.low)
    assert np.log(found.high / found.mean) == pytest.approx((plain.high - plain.mean) / plain.mean)


@pytest.mark.parametrize("support", ["share", "positive"])
def test_far_from_its_ends_a_support_changes_little(support: Support):
    values = np.array([0.48, 0.50, 0.52])
    plain, found = over_seeds(values), over_seeds(values, support)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.006)
    same = over_seeds(np.ones(3), support)
    assert (same.low, same.high) == (1.0, 1.0)


def test_the_interval_over_items_stays_in_its_support_too():
    outcomes, weights = np.array([0.0] * 18 + [0.9, 1.0]), np.arange(1.0, 21.0)
    plain = over_items(outcomes, weights, resamples=500)
    found = over_items(outcomes, weights, resamples=500, support="share")
    assert plain.low < 0 < found.low < found.mean == plain.mean < found.high < 1


def test_the_geometric_mean_has_the_t_interval_of_logarithms():
    values = np.array([1.5, 2.0, 1.7, 1.9])
    found, expected = over_seeds_log(values), stats.ttest_1samp(np.log(values), 0).confidence_interval(0.95)
    assert found.mean == pytest.approx(stats.gmean(values))
    assert (found.low, found.high) == pytest.approx((np.exp(expected.low), np.exp(expected.high)))
    with pytest.raises(ValueError, match="above 0"):
        over_seeds_log(np.array([1.0, 0.0]))


@pytest.mark.parametrize(
    ("outcomes", "higher_is_better", "expected"),
    [
        ([[0.0, 1.0], [0.3, 0.4]], True, "share"),
        ([[0.0, 1.0]], None, "share"),
        ([[0.1, 0.2]], False, "positive"),  # a small loss is no share
        ([[0.5], [1.2]], True, "positive"),
        ([[0.5], [-0.1]], True, "real"),
    ],
)
def test_where_a_figure_can_lie_is_told_by_its_outcomes(
    outcomes: list[list[float]], higher_is_better: bool | None, expected: str
):
    assert support_of([np.array(values) for values in outcomes], higher_is_better) == expected


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_difference_over_seeds_is_scipys_paired_t_test(seeds: int):
    rng = np.random.default_rng(seeds)
    baseline = rng.normal(0.4, 0.1, seeds)
    values = baseline + rng.normal(0.05, 0.03, seeds)
    found, expected = difference_over_seeds(values, baseline), stats.ttest_rel(values, baseline)
    interval = expected.confidence_interval(0.95)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize(("shift", "p_value"), [(0.0, 1.0), (0.1, None)])
def test_seeds_that_do_not_spread_prove_nothing(shift: float, p_value: float | None):
    baseline = np.array([0.3, 0.7, 0.2])
    found = difference_over_seeds(baseline + shift, baseline)  # 0.1 more each, up to rounding
    assert found.p_value == p_value
    assert (found.low, found.high) == pytest.approx((shift, shift))


def test_the_interval_over_items_is_scipys_bootstrap_but_for_skew():
    rng = np.random.default_rng(1)
    weights = rng.lognormal(5, 0.7, 2000)
    outcomes = rng.normal(1, 0.3, 2000)
    expected = stats.bootstrap(
        (outcomes, weights),
        lambda x, w, axis: (x * w).sum(axis) / w.sum(axis),
        paired=True,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    found = over_items(outcomes, weights, resamples=2000)
    assert found.mean == pytest.approx(Metric(outcomes, False, weights).value)
    half = (found.high - found.low) / 2
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.1 * half)


def test_bits_per_byte_are_pooled():
    bits, n_bytes = np.array([10.0, 90.0]), np.array([10.0, 30.0])
    assert over_items(bits / n_bytes, n_bytes).mean == 2.5
    assert over_items(bits / n_bytes).mean == 2.0


@pytest.mark.parametrize("solved", [0, 1, 30, 60])
def test_accuracies_have_wilsons_interval(solved: int):
    outcomes = np.arange(ITEMS) < solved
    found = over_items(outcomes.astype(float))
    share, z = solved / ITEMS, stats.norm.ppf(0.975)
    # Wilson (1927): the shares p whose score test does not refuse the one seen.
    for bound in (found.low, found.high):
        if 0 < bound < 1:
            assert abs(share - bound) == pytest.approx(z * np.sqrt(bound * (1 - bound) / ITEMS))
    assert found.low <= share <= found.high and found.high - found.low > 0.05


def test_accuracies_are_compared_as_agresti_and_min_do():
    outcomes, baseline = (np.array(pattern, dtype=float) for pattern in ([1, 1, 1, 1, 0, 0], [0, 0, 0, 1, 1, 0]))
    found = difference_over_items(np.tile(outcomes, 10), np.tile(baseline, 10))
    # 30 items are solved by the first alone, 10 by the second alone; half an item more in each of four cells.
    first, second, count = 30.5 / 62, 10.5 / 62, 62
    error = np.sqrt((first + second - (first - second) ** 2) / count)
    half = stats.norm.ppf(0.975) * error
    assert found.mean == pytest.approx(20 / 60)
    assert (found.low, found.high) == pytest.approx((first - second - half, first - second + half))
    assert found.p_value == pytest.approx(2 * stats.norm.cdf(-(first - second) / error))


def test_pairing_removes_what_makes_items_hard():
    rng = np.random.default_rng(0)
    weights, baseline = rng.integers(20, 400, ITEMS).astype(float), rng.uniform(0.2, 2.0, ITEMS)
    found = difference_over_items(baseline - 0.01 + rng.normal(0, 1e-4, ITEMS), baseline, weights)
    assert found.high - found.low < 1e-4 < over_items(baseline, weights).high - over_items(baseline, weights).low
    assert found.high < 0 and found.p_value is not None and found.p_value < 0.001


@pytest.mark.parametrize("weights", [None, np.linspace(1, 2, ITEMS)])
def test_the_same_outcomes_differ_by_nothing(weights: Floats | None):
    outcomes = np.random.default_rng(0).normal(size=(3, ITEMS))
    assert difference_over_items(outcomes, outcomes, weights) == Interval(0, 0, 0, 1.0)


def test_seeds_are_averaged_item_by_item():
    rng = np.random.default_rng(2)
    outcomes, baseline = rng.normal(size=(2, 5, ITEMS))
    alone = difference_over_items(outcomes.mean(0) - baseline.mean(0), np.zeros(ITEMS))
    found = difference_over_items(outcomes, baseline)
    assert (found.low, found.high, found.p_value) == pytest.approx((alone.low, alone.high, alone.p_value))


@pytest.mark.parametrize("resamples", [199, 1000])
def test_the_p_value_and_the_interval_say_the_same(resamples: int):
    rng = np.random.default_rng(3)
    for effect in np.linspace(0, 0.6, 60):
        found = difference_over_items(rng.normal(effect, 1, ITEMS), np.zeros(ITEMS), resamples=resamples)
        assert found.p_value is not None and (found.low > 0 or found.high < 0) == (found.p_value <= 0.05)


def test_a_seed_gives_the_same_interval_again_and_another_seed_another():
    outcomes = np.random.default_rng(0).lognormal(size=ITEMS)
    first, again, other = (over_items(outcomes, resamples=500, seed=seed) for seed in (0, 0, 1))
    assert first == again != other


def test_memory_does_not_grow_with_resamples():
    outcomes = np.random.default_rng(0).normal(size=10_000)
    tracemalloc.start()
    over_items(outcomes, resamples=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6  # 1,000 x 10,000 draws at once are 80 MB, four times over


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: over_seeds(np.ones(1)), r"got shape \(1,\); give \[seeds\] of at least 2"),
        (lambda: difference_over_seeds(np.ones(3), np.ones(2)), r"got shapes \(3,\), \(2,\)"),
        (lambda: over_items(np.ones(1)), "outcomes: got 1 items; an interval needs at least 2"),
        (lambda: over_items(np.ones(3), np.ones(2)), r"got shape \(3,\), weights of \(2,\)"),
        (lambda: over_items(np.ones(2), np.array([1.0, 0.0])), r"weights: got 0\.0"),
        (lambda: difference_over_items(np.ones((2, 4)), np.ones((2, 3))), r"got shapes \(2, 4\), \(2, 3\)"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_shapes(ask: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        ask()


def test_holm_is_the_closed_test_of_bonferroni():
    rng = np.random.default_rng(0)
    for _ in range(50):
        p_values = [float(p) for p in rng.random(5) ** 3]
        every = range(len(p_values))
        families = list(chain.from_iterable(combinations(every, size) for size in range(1, len(p_values) + 1)))
        # A hypothesis falls where every family that holds it falls by Bonferroni's test (Marcus et al. 1976).
        expected = [
            max(min(1.0, len(family) * min(p_values[j] for j in family)) for family in families if i in family)
            for i in every
        ]
        assert holm(p_values) == pytest.approx(expected)
    assert holm([]) == []


# Each makes one experiment: the interval that is found, and what is true.
Experiment = Callable[[np.random.Generator, int], tuple[Interval, float]]


def seeds_mean(count: int) -> Experiment:
    return lambda rng, number: (over_seeds(rng.normal(0.4, 0.05, count)), 0.4)


def seeds_of_accuracies(rng: np.random.Generator, number: int) -> tuple[Interval, float]:
    chance = rng.normal(0.5, 0.08, 5).clip(0.05, 0.95)
    return difference_over_seeds(*(rng.binomial(ITEMS, chance, size=(2, 5)) / ITEMS)), 0.0


def seeds_of_heavy_tails(rng: np.random.Generator, number: int) -> tuple[Interval, float]:
    baseline = rng.normal(1, 0.1, 5)
    return difference_over_seeds(baseline + 0.02 * rng.standard_t(5, 5), baseline), 0.0


def items_normal(rng: np.random.Generator, number: int) -> tuple[Interval, float]:
    baseline = rng.normal(1, 0.5, ITEMS)
    return difference_over_items(baseline + rng.normal(0, 0.1, ITEMS), baseline, resamples=199, seed=number), 0.0


def items_heavy_tails(rng: np.random.Generator, number: int) -> tuple[Interval, float]:
    weights, baseline = rng.lognormal(5, 0.7, ITEMS), rng.lognormal(0, 0.5, ITEMS)
    outcomes = baseline + 0.05 * rng.standard_t(3, ITEMS)
    return difference_over_items(outcomes, baseline, weights, resamples=199, seed=number), 0.0


def items_skew(rng: np.random.Generator, number: int) -> tuple[Interval, float]:
    weights = rng.lognormal(5, 0.7, ITEMS)
    return over_items(rng.lognormal(0, 0.5, ITEMS), weights, resamples=199, seed=number), float(np.exp(0.5**2 / 2))


def items_accuracy(rng: np.random.Generator, number: int) -> tuple[Interval, float]:
    chance = rng.uniform(0.02, 0.98)
    return over_items((rng.random(ITEMS) < chance).astype(float)), chance


def items_accuracies(rng: np.random.Generator, number: int) -> tuple[Interval, float]:
    alone = rng.uniform(0.05, 0.25)  # share of items that the one model solves and the other does not
    which, both = rng.random(ITEMS), rng.random(ITEMS) < 0.5
    outcomes = np.where(which < alone, True, np.where(which > 1 - alone, False, both)).astype(float)
    baseline = np.where(which < alone, False, np.where(which > 1 - alone, True, both)).astype(float)
    return difference_over_items(outcomes, baseline), 0.0


def items_of_seeds(rng: np.random.Generator, number: int) -> tuple[Interval, float]:
    chance = rng.beta(0.7, 0.7, ITEMS)
    outcomes, baseline = (rng.random((2, 3, ITEMS)) < chance).astype(float)
    return difference_over_items(outcomes, baseline, resamples=199, seed=number), 0.0


@pytest.mark.parametrize(
    ("experiment", "simulations"),
    [
        pytest.param(seeds_mean(2), 1000, id="seeds_mean_of_2"),
        pytest.param(seeds_mean(5), 1000, id="seeds_mean_of_5"),
        (seeds_of_accuracies, 1000),
        (seeds_of_heavy_tails, 1000),
        (items_normal, 1000),
        (items_heavy_tails, 1000),
        (items_skew, 3000),  # covers 94.2 % in 10,000 simulations; of 1,000, one set in 20 would fall below 93 %
        (items_accuracy, 1000),
        (items_accuracies, 1000),
        (items_of_seeds, 1000),
    ],
)
def test_intervals_hold_the_truth_as_often_as_they_say(experiment: Experiment, simulations: int):
    rng = np.random.default_rng(0)
    found = [experiment(rng, number) for number in range(simulations)]
    covered = np.mean([interval.low <= truth <= interval.high for interval, truth in found])
    assert 0.93 <= covered <= 0.97
    tested = [interval.p_value < 0.05 for interval, truth in found if interval.p_value is not None and truth == 0]
    if tested:
        assert np.mean(tested) <= 0.06
