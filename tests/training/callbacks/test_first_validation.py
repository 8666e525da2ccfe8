"""When the validation before training is logged; `tests/cli/test_cli.py` has what is logged of a real run."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from remit_lit.training.callbacks.first_validation import FirstValidation


@pytest.mark.parametrize(
    ("changes", "is_logged"),
    [
        ({}, True),
        ({"sanity_checking": False}, False),  # of training, which Lightning logs itself
        ({"global_step": 4}, False),  # of a run that goes on
        ({"num_sanity_val_steps": 2}, False),  # of two batches only
    ],
)
def test_the_first_validation_of_all_rows_is_logged_once(changes: dict[str, Any], is_logged: bool) -> None:
    logged: list[tuple[dict[str, float], int]] = []
    logger = SimpleNamespace(log_metrics=lambda figures, step: logged.append((figures, step)))
    given: dict[str, Any] = {
        "sanity_checking": True,
        "global_step": 0,
        "num_sanity_val_steps": math.inf,
        "callback_metrics": {"val/nll": 1.5},
        "loggers": [logger],
    }
    trainer: Any = SimpleNamespace(**{**given, **changes})
    FirstValidation().on_validation_end(trainer, None)  # type: ignore[arg-type]
    assert logged == ([({"val/nll": 1.5}, 0)] if is_logged else [])
