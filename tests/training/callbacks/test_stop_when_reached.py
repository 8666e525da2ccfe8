"""A run that ends at a figure and not after a number of steps."""

import json
from pathlib import Path
from typing import Any

import pytest

from remit_lit.errors import ConfigError, DataError
from remit_lit.training.callbacks.run_record import RunRecord
from remit_lit.training.callbacks.stop_when_reached import StopWhenReached
from tests.helpers import Run, build

STEPS = 12


def run(rows: Path, policy: Path, run_dir: Path, gate: StopWhenReached) -> Run:
    """At most 12 steps with a validation every 2."""
    validation: dict[str, Any] = {"limit_val_batches": 2, "val_check_interval": 2, "num_sanity_val_steps": 1}
    callbacks = [gate, RunRecord()]
    made, data = build(rows, policy, run_dir, steps=STEPS, callbacks=callbacks, learning_rate=0.05, trainer=validation)
    made.trainer.fit(made.module, datamodule=data)
    return made


@pytest.fixture(scope="module")
def validated(tiny_rows, tiny_policy_dir, tmp_path_factory) -> list[float]:
    """The validation NLL after 2, 4, ... 12 steps of a run that nothing stops."""
    values = []
    for step in range(2, STEPS + 1, 2):
        made, data = build(
            tiny_rows,
            tiny_policy_dir,
            tmp_path_factory.mktemp("part"),
            steps=step,
            learning_rate=0.05,
            trainer={"limit_val_batches": 2, "val_check_interval": step},
        )
        made.trainer.fit(made.module, datamodule=data)
        values.append(float(made.trainer.callback_metrics["val/nll"]))
    return values


def test_training_ends_at_the_first_look_that_is_low_enough(tiny_rows, tiny_policy_dir, tmp_path, validated):
    at_most = validated[2]
    expected = next(2 * (look + 1) for look, value in enumerate(validated) if value <= at_most)
    gate = StopWhenReached("val/nll", at_most)
    made = run(tiny_rows, tiny_policy_dir, tmp_path, gate)
    assert made.trainer.global_step == gate.reached_at == expected < STEPS
    assert len(made.losses) == expected
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["ended_at_step"] == expected and record["steps"] == STEPS
    assert record["cost"]["tokens"] == expected * record["tokens_per_step"]
    assert gate.summary() == [f"val/nll: {validated[2]:.4f}, at most {at_most}, after {expected} steps"]


def test_a_run_that_never_gets_there_fails_and_says_which(tiny_rows, tiny_policy_dir, tmp_path):
    with pytest.raises(
        DataError, match=rf"^{tmp_path}: after 12 steps, the horizon, val/nll is .* above 0.01"
    ) as error:
        run(tiny_rows, tiny_policy_dir, tmp_path, StopWhenReached("val/nll", 0.01))
    assert "model.horizon" in str(error.value) and "another seed than 0" in str(error.value)


def test_a_figure_that_validation_does_not_log_is_refused(tiny_rows, tiny_policy_dir, tmp_path):
    with pytest.raises(ConfigError, match=r"figure: got 'val/loss'; validation logs .*val/nll"):
        run(tiny_rows, tiny_policy_dir, tmp_path, StopWhenReached("val/loss", 1.0))
