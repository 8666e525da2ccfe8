"""Rates of false findings and coverage are those of the runs they are drawn from."""

import csv
from pathlib import Path

import numpy as np
import pytest

from remit_lit.errors import ConfigError
from remit_lit.recipes.lab_calibration import Arms, coverage, false_findings, read_arms, report

BASES = [str(base) for base in range(1, 5) for _ in range(6)]


def normal_arms(shift: float = 0.0, seed: int = 0, between: float = 10.0) -> Arms:
    """Four arms of 24 runs around a level of their base; one of the arms is shifted."""
    rng = np.random.default_rng(seed)
    level = 60 + between * np.array([int(base) for base in BASES]) / 4
    values = level + rng.normal(0, 1, (4, 24))
    values[0] += shift
    return Arms(values, BASES, "share", 100.0)


def test_equal_arms_are_told_apart_in_one_study_of_twenty():
    rates = [false_findings(normal_arms(seed=seed), 200)["over runs"].share for seed in range(10)]
    assert 0.03 <= np.mean(rates) <= 0.07


def test_an_arm_that_differs_shows_in_the_spread_and_not_as_findings():
    """Studies draw it on either side, so that it widens their intervals."""
    assert false_findings(normal_arms(shift=8.0), 200)["over runs"].high < 0.2


@pytest.mark.parametrize("between", [0.0, 10.0])
def test_intervals_cover_the_mean_of_all_runs(between):
    found = coverage(normal_arms(between=between), 400)
    assert 0.92 <= found["difference over runs"].share <= 0.98
    # Runs of blocks that differ spread more than their mean does, as each block has its share of them.
    assert found["mean over runs"].share >= (0.92 if between == 0 else 0.99)


def write_seeds(path: Path, arms: int = 2, missing: bool = False) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row_title", "column", "higher_is_better", "seed", "base_seed", "value"])
        for arm in range(arms):
            for run, base in enumerate(BASES):
                if not (missing and arm and run == 3):
                    writer.writerow(["probability", f"arm{arm}", "True", run, base, 70 + arm + run % 5])
    return path


def test_the_report_reads_a_tables_seeds(tmp_path):
    text = report(write_seeds(tmp_path / "seeds.csv"), 200)
    assert "| probability | over runs | A/A studies that find a difference |" in text
    assert "| probability | mean over runs | 95 % intervals that cover the truth |" in text
    assert text.endswith("200 studies redrawn from 2 arms of 24 runs.")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path, "no file .*calibration.yaml"),
        (lambda path: write_seeds(path, arms=1), "needs two arms or more"),
        (lambda path: write_seeds(path, missing=True), "each with the same runs"),
    ],
    ids=["no file", "one arm", "a run missing"],
)
def test_what_cannot_be_calibrated_is_refused(make, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        read_arms(make(tmp_path / "seeds.csv"))


def test_fewer_studies_than_tell_anything_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="--studies: got 100; give at least 200"):
        report(write_seeds(tmp_path / "seeds.csv"), 100)
