"""Mean curves, and when they reach a target."""

import numpy as np
import pytest
from scipy import stats

from remit_lit.evaluation.statistics import over_seeds
from remit_lit.tables.curves import (
    Curve,
    Reached,
    log_mean,
    mean_curve,
    speed_up,
    tokens_to_target,
    tokens_until,
)

RISING: Curve = [(0, 0.1), (100, 0.2), (200, 0.6), (300, 0.8)]


@pytest.mark.parametrize(
    ("target", "expected"),
    [(0.2, 100), (0.4, 150), (0.7, 250), (0.8, 300), (0.81, None), (0.05, 0)],
)
def test_the_target_is_reached_between_two_evaluations(target: float, expected: float | None):
    assert tokens_to_target(RISING, target, higher_is_better=True) == pytest.approx(expected)
    falling = [(tokens, -value) for tokens, value in RISING]
    assert tokens_to_target(falling, -target, higher_is_better=False) == pytest.approx(expected)


def test_direction_matters():
    assert tokens_to_target(RISING, 0.5, higher_is_better=False) == 0
    assert tokens_to_target([(0, 3.0), (10, 2.0)], 2.5, higher_is_better=True) == 0


def test_the_first_time_counts():
    dipping = [(10, 0.1), (20, 0.5), (30, 0.3), (40, 0.6)]
    assert tokens_to_target(dipping, 0.5, higher_is_better=True) == 20


def test_a_curve_that_never_arrives_gives_a_bound():
    assert tokens_until(RISING, 0.6, higher_is_better=True) == (200, False)
    assert tokens_until(RISING, 0.9, higher_is_better=True) == (300, True)


@pytest.mark.parametrize("times", [1.0, 2.0, 6.0])
def test_a_curve_that_learns_so_many_times_as_fast_has_that_speed_up(times: float):
    tokens = np.arange(1, 121) * 10.0
    baseline = [(t, 1 - np.exp(-t / 500)) for t in tokens]
    faster = [(t, 1 - np.exp(-times * t / 500)) for t in tokens]
    found = speed_up(faster, baseline, higher_is_better=True)
    assert found is not None and found.value == pytest.approx(times, rel=0.01) and not found.censored
    losses, faster_losses = ([(t, 1 - value) for t, value in curve] for curve in (baseline, faster))
    assert speed_up(faster_losses, losses, higher_is_better=False) == found


def test_a_slower_curve_has_a_bound_or_a_speed_up_below_one():
    baseline = [(100, 0.2), (200, 0.4)]
    assert speed_up([(100, 0.1), (250, 0.3)], baseline, higher_is_better=True) == (200 / 250, True)
    assert speed_up([(100, 0.1), (200, 0.3), (400, 0.4)], baseline, higher_is_better=True) == (0.5, False)


def test_the_target_may_be_given():
    baseline, faster = [(100, 0.2), (200, 0.4)], [(100, 0.4), (200, 0.8)]
    assert speed_up(faster, baseline, higher_is_better=True, target=0.2) == (1.0, False)
    assert speed_up(faster, baseline, higher_is_better=True, target=0.4) == (2.0, False)
    assert speed_up(faster, baseline, higher_is_better=True, target=0.5) is None  # the baseline is never there


def test_a_baseline_that_stands_still_at_the_end_is_as_fast_as_itself():
    still = [(0, 0.1), (100, 0.5), (200, 0.5), (300, 0.5)]
    assert speed_up(still, still, higher_is_better=True) == (1.0, False)


def test_nothing_is_said_of_a_start_that_is_there_already():
    assert speed_up([(0, 0.9), (100, 0.9)], [(0, 0.1), (100, 0.5)], higher_is_better=True) is None


def test_speed_ups_have_a_geometric_mean():
    found = log_mean([Reached(1.5, False), Reached(2.0, False), Reached(3.0, False)])
    assert found.value == pytest.approx(stats.gmean([1.5, 2.0, 3.0])) and (found.censored, found.seeds) == (0, 3)
    expected = stats.ttest_1samp(np.log([1.5, 2.0, 3.0]), 0).confidence_interval(0.95)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((np.exp(expected.low), np.exp(expected.high)))
    assert log_mean([Reached(2.0, False)]).interval is None


def test_a_censored_seed_counts_with_its_bound_and_leaves_no_interval():
    found = log_mean([Reached(2.0, False), Reached(0.5, True)])
    assert found.value == pytest.approx(1.0) and found.interval is None
    assert (found.censored, found.seeds) == (1, 2)
    with pytest.raises(ValueError, match="at least one seed"):
        log_mean([])


def test_the_mean_curve_has_t_intervals_where_all_seeds_were_evaluated():
    curves = {0: [(10, 0.1), (20, 0.3), (30, 0.9)], 1: [(10, 0.2), (20, 0.5)], 2: [(10, 0.3), (15, 0.0), (20, 0.4)]}
    points = mean_curve(curves, higher_is_better=True)
    assert [point.tokens for point in points] == [10, 20]
    assert [point.mean for point in points] == pytest.approx([0.2, 0.4])
    assert points[1].interval == over_seeds(np.array([0.3, 0.5, 0.4]), "share")
    losses = mean_curve({seed: [(t, 5 * value) for t, value in curve] for seed, curve in curves.items()})
    assert losses[1].interval == over_seeds(np.array([1.5, 2.5, 2.0]), "positive")
    assert mean_curve({0: RISING})[0].interval is None


@pytest.mark.parametrize(
    ("curve", "message"),
    [([], "no evaluation"), ([(20, 0.1), (10, 0.2)], "ascend"), ([(10, float("nan"))], "finite")],
)
def test_what_is_no_curve_is_refused(curve: Curve, message: str):
    with pytest.raises(ValueError, match=message):
        tokens_to_target(curve, 0.5, higher_is_better=True)


def test_seeds_that_share_no_evaluation_have_no_mean():
    with pytest.raises(ValueError, match=r"seeds \[0, 1\] share no evaluation"):
        mean_curve({0: [(10, 0.1)], 1: [(20, 0.1)]})
