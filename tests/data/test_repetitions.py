"""Which rows only repeat themselves, against a slow loop, and that they then have no target."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from remit_lit.data.repetitions import RepetitionFilter
from remit_lit.data.rows import Collate, PackedRows
from remit_lit.errors import ConfigError
from remit_lit.losses import IGNORE_INDEX
from remit_lit.training.datamodule import PackedData


def slow_repeats(tokens: list[int], min_period: int, max_period: int, max_count: int) -> bool:
    """Look at every start and every period for the same run again and again."""
    for start in range(len(tokens)):
        for period in range(min_period, max_period + 1):
            run, times = tokens[start : start + period], 1
            while tokens[start + times * period : start + (times + 1) * period] == run and len(run) == period:
                times += 1
            if times >= max_count:
                return True
    return False


@pytest.mark.parametrize("setting", [(1, 3, 4), (2, 5, 3), (1, 1, 6), (3, 4, 2)])
def test_against_a_loop(setting: tuple[int, int, int]) -> None:
    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        tokens = rng.integers(0, 2 if setting[2] > 2 else 4, rng.integers(2, 30))
        expected = slow_repeats(tokens.tolist(), *setting)
        assert RepetitionFilter(*setting).repeats(tokens) == expected
        found.append(expected)
    assert 0.05 < np.mean(found) < 0.95


@pytest.mark.parametrize("period", [1, 7, 13, 14])
@pytest.mark.parametrize("times", [31, 32, 40])
@pytest.mark.parametrize("before", [0, 5])
def test_olmos_rule(period: int, times: int, before: int) -> None:
    noise = np.random.default_rng(1).permutation(np.arange(1000, 1200))
    run = np.arange(period)
    tokens = np.concatenate([noise[:before], np.tile(run, times), noise[before:]])
    assert RepetitionFilter().repeats(tokens) == (period <= 13 and times >= 32)


def test_rows_that_repeat_have_no_target(tiny_rows: Path) -> None:
    rows = [PackedRows(tiny_rows / "train")[index] for index in range(3)]
    rows[1] = replace(rows[1], input_ids=rows[1].input_ids.copy())
    rows[1].input_ids[40:110] = 7
    plain, masked = Collate(True)(rows), Collate(True, RepetitionFilter())(rows)
    assert (masked.targets[1] == IGNORE_INDEX).all() and plain.mask[1].any()
    for index in (0, 2):
        assert (masked.targets[index] == plain.targets[index]).all()
    assert (masked.input_ids == plain.input_ids).all()


def test_the_switch_is_off_by_default_and_reaches_the_batches(tiny_rows: Path) -> None:
    assert PackedData(str(tiny_rows), 2).collate.repetitions is None
    assert PackedData(str(tiny_rows), 2, mask_repetitions=RepetitionFilter()).collate.repetitions == RepetitionFilter()


def test_numbers_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.mask_repetitions: got periods of 3 to 2"):
        RepetitionFilter(3, 2)
    with pytest.raises(ConfigError, match=r"data\.mask_repetitions\.max_count: got 1; give at least 2"):
        RepetitionFilter(max_count=1)
