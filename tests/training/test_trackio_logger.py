"""What a run tells Trackio, here a stand-in; docs/guides/logging.md says what was tried of the real one."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from remit_lit.training.trackio_logger import TrackioLogger


def test_figures_settings_and_the_end_reach_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[dict[str, Any]] = []
    logged: list[tuple[dict[str, float], int]] = []
    ended: list[bool] = []
    run = SimpleNamespace(config={}, log=lambda m, step: logged.append((m, step)), finish=lambda: ended.append(True))

    def init(**given: Any) -> SimpleNamespace:
        began.append(given)
        return run

    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(init=init))
    logger = TrackioLogger("project", run="remit")
    logger.finalize("success")
    assert not began and not ended  # nothing was logged, so there is nothing to end
    logger.log_hyperparams({"data.batch_size": 8})
    logger.log_metrics({"val/nll": 1.5}, 0)
    logger.log_metrics({"train/loss": 1.25}, 3)
    logger.finalize("success")
    assert [(given["project"], given["name"], given["resume"]) for given in began] == [("project", "remit", "allow")]
    assert run.config == {"data.batch_size": 8}
    assert logged == [({"val/nll": 1.5}, 0), ({"train/loss": 1.25}, 3)] and ended == [True]
