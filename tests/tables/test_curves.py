"""Mean curves, and when they reach a target."""

import numpy as np
import pytest
from scipy import stats

from remit_lit.tables.curves import Curve, mean_curve, speed_up, tokens_to_target

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


@pytest.mark.parametrize("times", [1.0, 2.0, 6.0])
def test_a_curve_that_learns_so_many_times_as_fast_has_that_speed_up(times: float):
    tokens = np.arange(1, 121) * 10.0
    baseline = [(t, 1 - np.exp(-t / 500)) for t in tokens]
    faster = [(t, 1 - np.exp(-times * t / 500)) for t in tokens]
    assert speed_up(faster, baseline, higher_is_better=True) == pytest.approx(times, rel=0.01)
    losses, faster_losses = ([(t, 1 - value) for t, value in curve] for curve in (baseline, faster))
    assert speed_up(faster_losses, losses, higher_is_better=False) == pytest.approx(times, rel=0.01)


def test_a_slower_curve_has_no_speed_up_or_one_below_one():
    baseline = [(100, 0.2), (200, 0.4)]
    assert speed_up([(100, 0.1), (200, 0.3)], baseline, higher_is_better=True) is None
    assert speed_up([(100, 0.1), (200, 0.3), (400, 0.4)], baseline, higher_is_better=True) == 0.5


def test_a_baseline_that_stands_still_at_the_end_is_as_fast_as_itself():
    still = [(0, 0.1), (100, 0.5), (200, 0.5), (300, 0.5)]
    assert speed_up(still, still, higher_is_better=True) == 1.0


def test_nothing_is_said_of_a_start_that_is_there_already():
    assert speed_up([(0, 0.9), (100, 0.9)], [(0, 0.1), (100, 0.5)], higher_is_better=True) is None


def test_the_mean_curve_has_t_intervals_where_all_seeds_were_evaluated():
    curves = {0: [(10, 0.1), (20, 0.3), (30, 0.9)], 1: [(10, 0.2), (20, 0.5)], 2: [(10, 0.3), (15, 0.0), (20, 0.4)]}
    points = mean_curve(curves)
    assert [point.tokens for point in points] == [10, 20]
    assert [point.mean for point in points] == pytest.approx([0.2, 0.4])
    expected = stats.ttest_1samp([0.3, 0.5, 0.4], 0).confidence_interval(0.95)
    assert points[1].interval is not None
    assert (points[1].interval.low, points[1].interval.high) == pytest.approx((expected.low, expected.high))
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
