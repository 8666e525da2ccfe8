from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.golden.curves import STEPS, STRATEGIES, curve, make_inputs, read_golden

# Kernels of other processors round differently.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> tuple[Path, Path, Path]:
    """Rows, policy and reference."""
    return make_inputs(tmp_path_factory.mktemp("golden-inputs"))


@pytest.fixture(scope="module")
def curves(inputs, tmp_path_factory) -> dict[str, dict[str, Any]]:
    """The curve of a run made now, by strategy."""
    run_dir = tmp_path_factory.mktemp("golden")
    rows, policy, reference = inputs
    return {name: curve(name, rows, policy, reference, run_dir / name) for name in STRATEGIES}


@pytest.mark.parametrize("name", STRATEGIES)
def test_losses_are_those_of_the_golden_curve(name, curves):
    golden = read_golden(name)
    assert len(curves[name]["losses"]) == STEPS
    assert curves[name]["rows"] == golden["rows"]
    # After a change that is meant to change them: python -m tests.golden.regenerate.
    assert curves[name]["losses"] == pytest.approx(golden["losses"], rel=TOLERANCE)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_same_run_twice_is_bit_identical(name, curves, inputs, tmp_path):
    rows, policy, reference = inputs
    assert curve(name, rows, policy, reference, tmp_path) == curves[name]


def test_every_strategy_lowers_its_loss_and_no_two_agree_within_the_tolerance(curves):
    assert all(curves[name]["losses"][-1] < curves[name]["losses"][0] for name in STRATEGIES)
    for one, other in combinations(STRATEGIES, 2):
        assert curves[one]["losses"] != pytest.approx(curves[other]["losses"], rel=TOLERANCE), (one, other)
