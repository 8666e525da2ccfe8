"""Power against simulated runs, and the numbers of runs that follow from it."""

import numpy as np
import pytest
from scipy import stats

from remit_lit.evaluation.design import power, runs_needed


@pytest.mark.parametrize(("effect", "sd", "runs"), [(3.0, 6.4, 5), (3.0, 1.8, 5), (1.0, 1.0, 12), (-1.0, 1.0, 12)])
def test_power_is_the_share_of_simulated_studies_that_find_the_effect(effect: float, sd: float, runs: int) -> None:
    differences = np.random.default_rng(0).normal(effect, sd, (20_000, runs))
    found = stats.ttest_1samp(differences, 0, axis=1)
    share = np.mean((found.pvalue < 0.05) & (np.sign(differences.mean(1)) == np.sign(effect)))
    assert power(effect, sd, runs) == pytest.approx(share, abs=0.012)


def test_one_run_finds_nothing() -> None:
    assert power(100.0, 1.0, 1) == 0.0


@pytest.mark.parametrize(("effect", "sd"), [(3.0, 6.4), (3.0, 1.8), (10.0, 1.0), (0.5, 6.0)])
def test_the_runs_needed_are_the_fewest_with_the_power(effect: float, sd: float) -> None:
    needed = runs_needed(effect, sd)
    assert needed is not None and power(effect, sd, needed) >= 0.8 > power(effect, sd, needed - 1)


def test_the_runs_needed_agree_with_the_rule_of_thumb() -> None:
    """7.85 (sd / effect)^2 + 2 runs."""
    assert runs_needed(3.0, 6.4) == pytest.approx(7.85 * (6.4 / 3.0) ** 2 + 2, abs=1)


def test_what_is_too_small_needs_more_runs_than_anyone_makes() -> None:
    assert runs_needed(0.001, 1.0) is None
