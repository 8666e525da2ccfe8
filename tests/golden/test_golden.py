from itertools import combinations
from typing import Any

import pytest

from tests.golden.curves import STEPS, STRATEGIES, curve, read_golden

# Kernels of other processors round differently.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def curves(tiny_rows_split, tiny_policy_dir, tiny_reference_dir, tmp_path_factory) -> dict[str, dict[str, Any]]:
    """The curve of a run made now, by strategy."""
    run_dir = tmp_path_factory.mktemp("golden")
    return {
        name: curve(name, tiny_rows_split, tiny_policy_dir, tiny_reference_dir, run_dir / name) for name in STRATEGIES
    }


@pytest.mark.parametrize("name", STRATEGIES)
def test_losses_are_those_of_the_golden_curve(name, curves):
    golden = read_golden(name)
    assert len(curves[name]["losses"]) == STEPS
    assert curves[name]["rows"] == golden["rows"]
    # After a change that is meant to change them: python -m tests.golden.regenerate.
    assert curves[name]["losses"] == pytest.approx(golden["losses"], rel=TOLERANCE)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_same_run_twice_is_bit_identical(
    name, curves, tiny_rows_split, tiny_policy_dir, tiny_reference_dir, tmp_path
):
    assert curve(name, tiny_rows_split, tiny_policy_dir, tiny_reference_dir, tmp_path) == curves[name]


def test_every_strategy_lowers_its_loss_and_no_two_agree_within_the_tolerance(curves):
    assert all(curves[name]["losses"][-1] < curves[name]["losses"][0] for name in STRATEGIES)
    for one, other in combinations(STRATEGIES, 2):
        assert curves[one]["losses"] != pytest.approx(curves[other]["losses"], rel=TOLERANCE), (one, other)
