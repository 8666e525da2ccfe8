"""A run as its folder tells of it: what is there, and what is missing or damaged."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remit_lit.errors import ConfigError, DataError
from remit_lit.evaluation.results import Evaluation
from remit_lit.runs.folder import CONFIG, EVALUATION, METRICS, RECORD
from remit_lit.runs.history import HISTORY, read_history
from remit_lit.runs.metrics import Points, read_all_metrics

# Where a run was written and how it was begun, which is no setting of it.
_OF_THE_FOLDER = ("run_dir", "overwrite", "dry_run", "report", "allow_change", "ckpt_path", "weights_only", "resume")
Changed = Callable[[Path], Mapping[str, Any]]
"""The settings of a run, by dotted name, that differ from their defaults; raises ConfigError where none can tell."""


@dataclass(frozen=True)
class Run:
    """What a report shows of a run.

    Attributes:
        name: for people.
        folder: as it was given.
        record: ``run.json``; empty where it is missing.
        metrics: what was logged, by figure.
        evaluation: what was measured when training ended; None where nothing was.
        changed: settings that differ from their defaults, by dotted name.
        missing: why something is not shown, a sentence each.
    """

    name: str
    folder: Path
    record: Mapping[str, Any]
    metrics: Mapping[str, Points]
    evaluation: Evaluation | None
    changed: Mapping[str, Any]
    missing: Sequence[str]

    @property
    def has_ended(self) -> bool:
        """Whether the run said that it is over."""
        return "ended" in self.record


def read_runs(folders: Sequence[str | Path], changed: Changed) -> list[Run]:
    """The runs in these folders.

    Args:
        folders: of runs of ``fit`` or ``posttrain``; they need not have ended.
        changed: what tells the settings of a run that were changed.

    Raises:
        ConfigError: a folder is not there, is given twice, or is none of a run.
    """
    paths = [Path(folder) for folder in folders]
    if not paths:
        raise ConfigError("runs: got none; give the folder of a run, or of several to overlay them")
    for path in paths:
        _check(path)
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError(f"runs: got {', '.join(map(str, paths))}; give each run once")
    return [_read(path, name, changed) for path, name in zip(paths, _names(paths), strict=True)]


def _check(path: Path) -> None:
    if not path.is_dir():
        raise ConfigError(f"runs: there is no folder {path}; give the run_dir of a fit or of a posttrain")
    if not any((path / name).exists() for name in (CONFIG, RECORD, METRICS)):
        inside = path / "result"
        near = f"did you mean {inside}? " if inside.is_dir() else ""
        raise ConfigError(
            f"runs: {path} is no folder of a run (it has neither {CONFIG} nor {RECORD} nor {METRICS}); {near}give the "
            "run_dir of a fit or of a posttrain"
        )


def _names(paths: Sequence[Path]) -> list[str]:
    """The parts of the paths that tell the runs apart; of one run the folder's own name."""
    parts = [path.absolute().parts for path in paths]
    if len(parts) == 1:
        return [parts[0][-1]]
    before = _shared(parts)
    after = _shared([part[:before:-1] for part in parts])
    return ["/".join(part[before : len(part) - after]) for part in parts]


def _shared(parts: Sequence[Sequence[str]]) -> int:
    """How many of their first elements all have."""
    levels = enumerate(zip(*parts, strict=False))
    return next((place for place, level in levels if len(set(level)) > 1), min(map(len, parts)))


def _read(path: Path, name: str, changed: Changed) -> Run:
    missing: list[str] = []

    def tried(what: str, read: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return read()
        except (ConfigError, DataError, OSError, ValueError) as error:
            missing.append(f"{what}: {str(error).splitlines()[0]}")
            return otherwise

    record = _record(path, missing)
    metrics: dict[str, Points] = tried("What was logged is not shown", lambda: read_all_metrics(path), {})
    if not metrics and not missing:
        missing.append(f"Nothing is logged yet: there is no figure in {METRICS}.")
    history = tried(f"The evaluations in {HISTORY} are not shown", lambda: read_history(path), [])
    for point in history:  # a logger of another kind has them, and metrics.csv has not
        for figure, value in point.figures.items():
            if f"eval/{figure}" not in metrics or metrics[f"eval/{figure}"][-1][0] < point.global_step:
                metrics.setdefault(f"eval/{figure}", []).append((point.global_step, value))
    evaluation = None
    if (path / EVALUATION).exists():
        evaluation = tried("The results at the end are not shown", lambda: Evaluation.read(path / EVALUATION), None)
    settings: Mapping[str, Any] = {}
    if (path / CONFIG).exists():
        found = tried("What differs from the defaults is not known", lambda: changed(path), {})
        settings = {name: value for name, value in found.items() if name.split(".")[0] not in _OF_THE_FOLDER}
    else:
        missing.append(f"There is no {CONFIG}, so nothing is known of its settings.")
    return Run(name, path, record, metrics, evaluation, settings, missing)


def _record(path: Path, missing: list[str]) -> Mapping[str, Any]:
    try:
        record = json.loads((path / RECORD).read_text())
    except FileNotFoundError:
        missing.append(f"There is no {RECORD}: the run has not started to train.")
        return {}
    except (OSError, ValueError) as error:
        missing.append(f"{RECORD} is damaged ({error}).")
        return {}
    if not isinstance(record, dict):
        missing.append(f"{RECORD} is damaged (it has no fields).")
        return {}
    if "ended" not in record:
        missing.append("The run has not ended: it is still going on, or was interrupted.")
    return record
