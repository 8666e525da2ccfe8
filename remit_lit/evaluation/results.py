"""What an evaluation found: a JSON file with every setting, and the outcome of every item."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remit_lit.errors import ConfigError, DataError
from remit_lit.files import write_whole

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Metric:
    """One figure of one model on one task, by item.

    Attributes:
        outcomes: [items] of each item, e.g. 1.0 where solved, or bits per byte.
        higher_is_better: None where neither is, e.g. for a count of tokens.
        weights: [items] what each item counts for, e.g. its bytes; None: all the same.
        items: hash of what identifies the items of its task; empty where nobody knows.
    """

    outcomes: Floats
    higher_is_better: bool | None
    weights: Floats | None = None
    items: str = ""

    @property
    def value(self) -> float:
        """The mean over items by their weights: of bits per byte by bytes, all bits over all bytes ("pooled")."""
        return float(np.average(self.outcomes, weights=self.weights))


@dataclass(frozen=True, eq=False)
class Histogram:
    """How a figure of each token is distributed: how many lie in each of equally wide bins.

    Attributes:
        low: where the first bin begins; it also counts what lies below.
        high: where the last bin ends; it also counts what lies above.
        counts: [bins] of tokens.
        mean: of the tokens themselves, not of the bins.
        sd: standard deviation of the tokens themselves.
    """

    low: float
    high: float
    counts: Floats
    mean: float
    sd: float


@dataclass(frozen=True)
class TaskResult:
    """What a model did on one task.

    Attributes:
        metrics: by name, e.g. ``accuracy``, ``bits_per_byte``.
        items: what identifies each item, the same for every model; [items].
        not_run: why the task was not run; None where it was.
        settings: e.g. few-shot examples, version of the task.
        histograms: of figures that every token has, by name.
    """

    metrics: Mapping[str, Metric] = field(default_factory=dict)
    items: tuple[str, ...] = ()
    not_run: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    histograms: Mapping[str, Histogram] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """All that one ``evaluate`` found.

    Attributes:
        tasks: by name.
        facts: model and its fingerprint, settings, versions, seconds: what is needed to say where figures come from.
    """

    tasks: Mapping[str, TaskResult]
    facts: Mapping[str, Any]

    def write(self, path: Path) -> None:
        """Save as JSON, as a whole or not at all; a metric's ``value`` is written for readers and not read back."""
        tasks = {
            name: {
                "not_run": task.not_run,
                "metrics": {
                    metric: {
                        "value": found.value,
                        "higher_is_better": found.higher_is_better,
                        "outcomes": found.outcomes.tolist(),
                        "weights": None if found.weights is None else found.weights.tolist(),
                    }
                    for metric, found in task.metrics.items()
                },
                "settings": dict(task.settings),
                "items": list(task.items),
                "histograms": {
                    name: {**vars(found), "counts": found.counts.tolist()} for name, found in task.histograms.items()
                },
            }
            for name, task in self.tasks.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({"facts": dict(self.facts), "tasks": tasks}, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Evaluation":
        """What :meth:`write` saved.

        Raises:
            DataError: the file is no evaluation, or is damaged.
        """
        try:
            content: Any = json.loads(path.read_text())
            return cls({name: _task(task) for name, task in content["tasks"].items()}, content["facts"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is not a result of `evaluate`, or is damaged ({error})") from error


def _task(content: Any) -> TaskResult:
    items = hashlib.blake2b(json.dumps(content["items"]).encode(), digest_size=16).hexdigest()
    metrics = {
        name: Metric(
            np.asarray(metric["outcomes"], dtype=np.float64),
            metric["higher_is_better"],
            None if metric["weights"] is None else np.asarray(metric["weights"], dtype=np.float64),
            items,
        )
        for name, metric in content["metrics"].items()
    }
    histograms = {
        name: Histogram(**{**found, "counts": np.asarray(found["counts"], dtype=np.float64)})
        for name, found in content.get("histograms", {}).items()  # there are none in files of earlier versions
    }
    return TaskResult(metrics, tuple(content["items"]), content["not_run"], content["settings"], histograms)


def pass_at_k(samples: int, solved: int, k: int) -> float:
    """Unbiased estimate for one problem, 1 - C(n - c, k) / C(n, k) (Chen et al. 2021, arXiv:2107.03374, eq. 1).

    Args:
        samples: n, drawn for the problem.
        solved: c, of them right.
        k: at most ``samples``.

    Raises:
        ConfigError: not 0 <= solved <= samples, or not 1 <= k <= samples.
    """
    if not 1 <= k <= samples or not 0 <= solved <= samples:
        raise ConfigError(f"pass@k: got k={k} and {solved} solved of {samples} samples; k is 1 to the samples drawn")
    return 1.0 - comb(samples - solved, k) / comb(samples, k)
