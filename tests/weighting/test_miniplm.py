import random

import pytest
import torch

from remit_lit.errors import ConfigError, NonFiniteError
from remit_lit.weighting import MiniPLM, NextTokenPrediction, ReMiT, Rho1, RowScores
from tests.weighting import slow


@pytest.mark.parametrize("keep", [0.001, 0.25, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("rows", [1, 7, 100])
@pytest.mark.parametrize("ties", [False, True])
def test_keeps_the_rows_that_the_reference_finds_easier(keep, rows, ties):
    generator = random.Random(rows)
    base, reference = ([generator.uniform(0, 4) for _ in range(rows)] for _ in range(2))
    if ties:
        base, reference = [round(v) for v in base], [round(v) for v in reference]
    scores = RowScores(torch.tensor(base, dtype=torch.float64), torch.tensor(reference, dtype=torch.float64))
    chosen = MiniPLM(keep).select_rows(scores)
    assert chosen.dtype == torch.int64
    assert chosen.tolist() == slow.miniplm(base, reference, keep)


def test_half_precision_scores_are_compared_exactly():
    base, reference = torch.tensor([2049.0, 2050.0, 2048.0]), torch.tensor([1.0, 1.5, 0.25])
    scores = RowScores(base.float(), reference.half())
    assert MiniPLM(0.34).select_rows(scores).tolist() == [1]


@pytest.mark.parametrize("broken", ["base_nll", "reference_nll"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_rows_with_a_broken_score_are_refused(broken, value):
    scores = {"base_nll": torch.ones(5), "reference_nll": torch.ones(5)}
    scores[broken][3] = value
    with pytest.raises(NonFiniteError, match="3"):
        MiniPLM().select_rows(RowScores(**scores))


def test_the_others_select_no_rows():
    scores = RowScores(torch.ones(3), torch.zeros(3))
    for strategy in (NextTokenPrediction(), ReMiT(), Rho1()):
        assert not strategy.selects_rows and strategy.select_rows(scores) is None
    assert MiniPLM.selects_rows


@pytest.mark.parametrize("value", [0.0, -0.5, 1.5, float("nan")])
def test_settings_out_of_range_are_refused(value):
    with pytest.raises(ConfigError, match=rf"MiniPLM\.keep: got {value!r}"):
        MiniPLM(value)
