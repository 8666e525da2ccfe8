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


class Curves:
    """Curves of runs made now, each when it is first asked for, since processes share the tests."""

    def __init__(self, inputs: tuple[Path, Path, Path], directory: Path) -> None:
        self.inputs, self.directory = inputs, directory
        self.made: dict[str, dict[str, Any]] = {}

    def __getitem__(self, name: str) -> dict[str, Any]:
        if name not in self.made:
            rows, policy, reference = self.inputs
            self.made[name] = curve(name, rows, policy, reference, self.directory / name)
        return self.made[name]


@pytest.fixture(scope="module")
def curves(inputs, tmp_path_factory) -> Curves:
    return Curves(inputs, tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", STRATEGIES, scope="class")
class TestStrategy:
    def test_losses_are_those_of_the_golden_curve(self, name, curves):
        golden = read_golden(name)
        assert len(curves[name]["losses"]) == STEPS
        assert curves[name]["rows"] == golden["rows"]
        # After a change that is meant to change them: python -m tests.golden.regenerate.
        assert curves[name]["losses"] == pytest.approx(golden["losses"], rel=TOLERANCE)

    def test_the_same_run_twice_is_bit_identical(self, name, curves, inputs, tmp_path):
        rows, policy, reference = inputs
        assert curve(name, rows, policy, reference, tmp_path) == curves[name]


def test_every_strategy_lowers_its_loss_and_no_two_agree_within_the_tolerance(curves):
    losses = {name: curves[name]["losses"] for name in STRATEGIES}
    assert all(values[-1] < values[0] for values in losses.values())
    for one, other in combinations(STRATEGIES, 2):
        assert losses[one] != pytest.approx(losses[other], rel=TOLERANCE), (one, other)
