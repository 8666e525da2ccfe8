"""Run folders whose figures are known, written without running anything."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from remit_lit.evaluation.results import Evaluation, Metric, TaskResult

Logged = Mapping[str, Sequence[tuple[int, float]]]
COUNTS = {
    "train": {
        "rows": 4,
        "sources": {"web": {"documents": 3, "tokens": 300}, "<b>noise</b>": {"documents": 1, "tokens": 100}},
    }
}


def made_run(
    folder: Path, logged: Logged | None = None, *, accuracy: float | None = None, **record: Any
) -> dict[str, Any]:
    """A folder of a run of ``fit``; its record ends with ``record``.

    Returns:
        The record.
    """
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("model: {z_loss: 0.1}\n")
    whole = {
        "command": ["python", "-m", "remit_lit", "fit"],
        "weighting": "ReMiT",
        "weighting_settings": {"epsilon": 0.2},
        "steps": 100,
        "tokens_per_step": 10,
        "data": {"counts": COUNTS},
        **record,
    }
    (folder / "run.json").write_text(json.dumps(whole))
    if logged:
        steps = sorted({step for points in logged.values() for step, _ in points})
        by_figure = {figure: dict(points) for figure, points in logged.items()}
        lines = [[str(step), *(str(of.get(step, "")) for of in by_figure.values())] for step in steps]
        (folder / "metrics.csv").write_text("".join(",".join(line) + "\n" for line in [["step", *by_figure], *lines]))
    if accuracy is not None:
        result = TaskResult({"accuracy": Metric(np.array([accuracy, accuracy]), True)}, ("a", "b"))
        Evaluation({"lab": result}, {}).write(folder / "evaluation.json")
    return whole
