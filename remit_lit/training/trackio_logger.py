"""Trackio as a logger of Lightning's, of which it brings none."""

from collections.abc import Mapping
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only


class TrackioLogger(Logger):
    """Log to a project of Trackio, on this machine unless a Space is given.

    Args:
        project: its name.
        run: name of the run, to which a run of that name is added; null has Trackio make one.
        space_id: a Space of Hugging Face's hub to log to instead; needs a network.
    """

    def __init__(self, project: str, run: str | None = None, space_id: str | None = None) -> None:
        super().__init__()
        self._project, self._run, self._space, self._begun = project, run, space_id, None

    name = property(lambda self: self._project)
    version = property(lambda self: self._run)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._begun is None:
            import trackio

            given = {"project": self._project, "name": self._run, "space_id": self._space}
            self._begun = trackio.init(**given, resume="allow", embed=False)
        return self._begun

    @rank_zero_only
    def log_hyperparams(self, params: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        self.experiment.config.update(params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:  # type: ignore[override]
        self.experiment.log(dict(metrics), step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._begun is not None:
            self._begun.finish()
