"""Figures whose jobs are known: folders of finished runs, written without running anything."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml  # type: ignore[import-untyped]

from remit_lit.cli.dispatch import main
from remit_lit.evaluation.results import Evaluation, Histogram, Metric, TaskResult
from remit_lit.jobs.job import Job
from remit_lit.runs.history import Evaluated, write_history
from remit_lit.tables.plan import TRAINED, make_plan
from remit_lit.tables.settings import Method, RowSettings, Step, TableSettings
from remit_lit.verbs import VERBS

Points = Sequence[tuple[float, float]]
TITLES = {"base": "Base", "ntp": "NTP", "rho1": "RHO-1", "remit": "ReMiT"}


class Made:
    """A table with three methods, a base and two stages, and a figure laid over it.

    Args:
        place: an empty directory.
        seeds: of the table.
    """

    def __init__(self, place: Path, seeds: Sequence[int] = (0, 1, 2)) -> None:
        self.place, self.cells, self.output = place, place / "cells", place / "figure"
        (place / "fit.yaml").write_text("data: {rows: nowhere, prepare: null}\n")
        (place / "curve.yaml").write_text("trainer: {callbacks: []}\n")
        self.content: dict[str, Any] = {
            "title": "a made figure",
            "output": str(self.output),
            "experiment": ["experiments/quickstart.yaml", str(place / "fit.yaml")],
            "seeds": list(seeds),
            "fields": {"seed_everything": "{seed}"},
            "methods": {
                "base": {"title": "Base", "model": "lab/base", "post_train": False},
                **{
                    name: {"title": TITLES[name], "fields": {"data.validation_batch_size": size}}
                    for size, name in enumerate(("ntp", "rho1", "remit"), start=1)
                },
            },
            "stages": {
                stage: {"verb": "posttrain", "configs": [f"experiments/lab/{stage.lower()}.yaml"]}
                for stage in ("SFT", "RLVR")
            },
            "baseline": "ntp",
            "evaluate": {"tasks": ["lab"]},
            "agreement": {"rows": "nowhere", "reference.path": "lab/reference"},
            "rows": {"accuracy": {"title": "accuracy, %", "task": "lab", "metric": "accuracy", "scale": 100}},
        }

    def draw(self, figure: Mapping[str, Any], *arguments: str) -> None:
        """The figure by its verb, of what is there."""
        path = self.place / "figure.yaml"
        path.write_text(yaml.safe_dump({**self.content, "figure": dict(figure)}, sort_keys=False))
        main(["figure", f"--config={path}", f"--cells={self.cells}", *(arguments or ["--run=false"])])

    @property
    def lines(self) -> list[dict[str, str]]:
        """Of ``data.csv``."""
        with open(self.output / "data.csv", newline="") as stream:
            return list(csv.DictReader(stream))

    def points(self, series: str, seed: int, panel: str = "a") -> list[Any]:
        """(x as it is written, y) of one line of ``data.csv``."""
        of_seed = {"figure": panel, "series": series, "seed": str(seed)}
        return [(row["x"], float(row["y"])) for row in self.lines if of_seed.items() <= row.items() and row["y"]]

    @property
    def caption(self) -> str:
        return (self.output / "caption.md").read_text()

    def train(
        self, method: str, seed: int, curve: Points = (), logged: Mapping[str, Mapping[str, Points]] | None = None
    ) -> None:
        """A finished ``fit``: what it evaluated over tokens, and by file the columns that it logged over steps."""
        fit = self._run(method, seed).fit
        assert fit is not None
        _finish(fit)
        write_history(fit.result, [Evaluated(int(t) // 10, int(t), {"lab/accuracy": value}) for t, value in curve])
        for file, columns in (logged or {}).items():
            names = ["step", *columns]
            with open(fit.result / file, "w", newline="") as stream:
                writer = csv.DictWriter(stream, names)
                writer.writeheader()
                for name, points in columns.items():
                    writer.writerows({"step": int(step), name: value} for step, value in points)

    def measure(self, method: str, seed: int, stage: str, accuracy: float) -> None:
        """A finished training, stages up to this one, and an evaluation that found this accuracy."""
        run = self._run(method, seed)
        for job in [run.fit, *list(run.stages.values())[: list(run.stages).index(stage) + 1 if stage else 0]]:
            if job is not None:
                _finish(job)
        result = TaskResult({"accuracy": Metric(np.array([accuracy, accuracy]), True)}, ("a", "b"))
        _keep(run.evaluations[stage, "evaluate"], {"lab": result})

    def compare(self, method: str, seed: int, counts: Sequence[int], sd: float) -> None:
        """A finished agreement before post-training, with a histogram from -1 to 1 nats."""
        kl = Metric(np.array([0.5]), None, np.array([float(sum(counts))]))
        histograms = {"log_ratio": Histogram(-1.0, 1.0, np.array(counts, dtype=float), 0.0, sd)}
        result = TaskResult({"kl": kl}, ("row 0",), histograms=histograms)
        _keep(self._run(method, seed).evaluations[TRAINED, "agreement"], {"agreement": result})

    def _run(self, method: str, seed: int) -> Any:
        given = dict(self.content)
        given["methods"] = {name: Method(**method) for name, method in given["methods"].items()}
        given["stages"] = {name: Step(**step) for name, step in given["stages"].items()}
        given["rows"] = {name: RowSettings(**row) for name, row in given["rows"].items()}
        return make_plan(TableSettings(**given), self.cells)[method, seed]


def _finish(job: Job) -> None:
    job.result.mkdir(parents=True, exist_ok=True)
    for name in VERBS[job.verb].holds:
        path = job.result / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    (job.folder / "done.json").write_text(json.dumps({"kind": job.kind, "seconds": 1.0}))


def _keep(job: Job, tasks: Mapping[str, TaskResult]) -> None:
    _finish(job)
    Evaluation(tasks, {}).write(job.output)
