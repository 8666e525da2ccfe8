"""Planted weights fall on the results of traces, by the true chain, and on nothing else."""

import pytest
import torch

from remit_lit.errors import ConfigError
from remit_lit.lab.oracle import LabOracle
from remit_lit.lab.task import TABLES
from remit_lit.lab.tokenizer import BOS, EOS, lab_vocabulary
from remit_lit.losses import IGNORE_INDEX
from remit_lit.weighting import TokenSignals
from remit_lit.weighting.testing import check_strategy


def signals_of(row: str, targets: bool = True) -> TokenSignals:
    ids = torch.tensor([[lab_vocabulary().get(character, IGNORE_INDEX) for character in row]])
    mask = ids != IGNORE_INDEX
    return TokenSignals(torch.zeros(ids.shape), mask, neutral=ids <= 1, targets=ids if targets else None)


def document(wrong_from: int) -> str:
    """A problem of additions to a start of 3, whose results are wrong from one step on."""
    value, question, trace = 3, "Q:3", ""
    for step, (operator, operand) in enumerate([("A", 2), ("B", 5), ("A", 0), ("D", 1), ("F", 4)]):
        value = TABLES[operator][value][operand]
        written = value if step < wrong_from else (value + 1) % 6
        question, trace = f"{question}{operator}{operand}", f"{trace}{operator}{operand}{written}"
    return f"{question}={trace}#{trace[-1]}"


@pytest.mark.parametrize("wrong_from", [0, 2, 5])
@pytest.mark.parametrize("strength", [0.05, 1.0])
def test_results_of_traces_weigh_more_where_right_and_less_where_wrong(wrong_from, strength):
    web, whole = "abcabcQ:12=", document(wrong_from)
    row = f"{web}{EOS}{BOS}{whole}{EOS}{BOS}{whole[:20]} "
    (weights,) = LabOracle(strength).weights(signals_of(row))
    expected = torch.ones(len(row))
    start = len(web) + 2 + whole.index("=") + 1
    for step in range(5):
        expected[start + 3 * step + 2] = 1 + strength if step < wrong_from else 1 - strength
    expected[-1] = 0.0
    assert torch.equal(weights, expected)


def test_it_keeps_the_contract_of_strategies():
    check_strategy(LabOracle(), examples=20)


def test_without_targets_it_is_refused():
    with pytest.raises(ConfigError, match="signals without targets"):
        LabOracle().weights(signals_of("abc", targets=False))


def test_a_strength_over_one_is_refused():
    with pytest.raises(ConfigError, match=r"LabOracle\.strength: got 1\.5"):
        LabOracle(1.5)
