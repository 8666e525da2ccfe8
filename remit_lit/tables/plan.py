"""From a table's YAML to the jobs that it is made of."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remit_lit.configs import find_config
from remit_lit.errors import ConfigError, did_you_mean
from remit_lit.jobs.fields import fill, leaves
from remit_lit.jobs.fingerprint import contents_of
from remit_lit.jobs.job import Job
from remit_lit.tables.settings import AGREEMENT, EVALUATE, INPUTS, TableSettings, staged_name
from remit_lit.verbs import VERBS

TRAINED = ""
"""The stage of a method's model before any post-training."""


@dataclass(frozen=True)
class Run:
    """The jobs of one method and seed.

    Attributes:
        fit: the training; None for a model that is there already or nowhere.
        stages: of post-training, in order.
        evaluations: by stage and verb, evaluate or agreement.
    """

    fit: Job | None
    stages: Mapping[str, Job]
    evaluations: Mapping[tuple[str, str], Job]

    @property
    def jobs(self) -> list[Job]:
        """All of them."""
        return [*([] if self.fit is None else [self.fit]), *self.stages.values(), *self.evaluations.values()]


Plan = Mapping[tuple[str, int], Run]
"""The runs of a table by method and seed."""


def jobs_of(plan: Plan) -> list[Job]:
    """The jobs of all runs, without what they need."""
    return [job for run in plan.values() for job in run.jobs]


def make_plan(settings: TableSettings, root: Path) -> Plan:
    """The runs of a table by method and seed.

    Args:
        settings: the table.
        root: directory of the jobs.

    Raises:
        ConfigError: an input that is no step, method or stage; inputs in a circle; or a config that cannot be read.
    """
    _check_configs(settings)
    plan = {}
    for number, seed in enumerate(settings.seeds):
        values = {"seed": str(seed), **{name: str(given[number]) for name, given in settings.vary.items()}}
        jobs = _Seed(settings, root, seed, values)
        for name in settings.methods:
            plan[name, seed] = jobs.run(name)
    return plan


@dataclass
class _Seed:
    """The jobs of one seed, each made when it is first needed."""

    settings: TableSettings
    root: Path
    seed: int
    values: Mapping[str, str]
    jobs: dict[str, Job] = field(default_factory=dict)
    in_progress: list[str] = field(default_factory=list)

    def run(self, name: str) -> Run:
        """The jobs of a method."""
        method = self.settings.methods[name]
        if method.unavailable is not None:
            return Run(None, {}, {})
        fit = self._get(name) if method.is_trained else None
        models = {TRAINED: self._model(name)}
        stages = {stage: self._get(staged_name(name, stage)) for stage in self.settings.stages if method.post_train}
        models |= {stage: _made_by(staged_name(name, stage)) for stage in stages}
        evaluations = {}
        for stage, (model, of_model) in models.items():
            measured = self.settings.in_training and fit is not None and stage == TRAINED
            for verb, measuring in ((EVALUATE, self.settings.evaluate), (AGREEMENT, self.settings.agreement)):
                if measuring is not None and not (verb == EVALUATE and measured):
                    fields = {**model, **measuring}
                    inputs = [*of_model, *fields.pop(INPUTS, [])]
                    called = f"{verb}-{staged_name(name, stage)}"
                    evaluations[stage, verb] = self._job(called, verb, [], fields, inputs)
        return Run(fit, stages, evaluations)

    def _model(self, name: str) -> "_Model":
        """The model of a method before any stage."""
        method = self.settings.methods[name]
        return _made_by(name) if method.is_trained else (method.model_fields, method.inputs)

    def _get(self, name: str) -> Job:
        """The job of a step, of a method's training, or of a stage after it."""
        if name in self.in_progress:
            raise ConfigError(f"inputs: {' -> '.join([*self.in_progress, name])} need each other in a circle")
        if name not in self.jobs:
            self.in_progress.append(name)
            self.jobs[name] = self._make(name)
            self.in_progress.pop()
        return self.jobs[name]

    def _make(self, name: str) -> Job:
        settings = self.settings
        if name in settings.before:
            step = settings.before[name]
            return self._job(name, step.verb, step.configs, step.fields, step.inputs)
        if name not in settings.methods:
            return self._make_stage(name)
        method = settings.methods[name]
        fields, inputs = {**settings.fields, **method.fields}, [*settings.inputs, *method.inputs]
        return self._job(name, "fit", [*settings.experiment, *method.configs], fields, inputs)

    def _make_stage(self, name: str) -> Job:
        method, stage = next(pair for pair in self._staged() if staged_name(*pair) == name)
        before = list(self.settings.stages)[: list(self.settings.stages).index(stage)]
        model, inputs = _made_by(staged_name(method, before[-1])) if before else self._model(method)
        step = self.settings.stages[stage]
        fields = fill({**model, **step.fields}, {"model": model["model.path"]})
        return self._job(name, step.verb, step.configs, fields, [*inputs, *step.inputs])

    def _staged(self) -> list[tuple[str, str]]:
        return [(method, stage) for method in self.settings.methods for stage in self.settings.stages]

    def _job(self, name: str, verb: str, configs: list[str], fields: Mapping[str, Any], declared: Sequence[str]) -> Job:
        filled = fill(dict(fields), self.values)
        inputs = {needed: self._input(name, needed) for needed in dict.fromkeys(declared)}
        places = {}
        if verb == "fit" and "data.rows" not in filled and not _keeps_rows(configs, filled):
            filled["data.rows"], places["rows"] = "{rows}", str(self._rows(configs, filled, inputs))
        # What takes as long: the same configs, or where there are none the same fields, of whatever model.
        kind = [verb, *(configs or (f"{key}={value}" for key, value in filled.items() if not key.startswith("model.")))]
        return Job(f"{name}-{self.seed}", self.root, verb, tuple(configs), filled, inputs, places, " ".join(kind))

    def _input(self, name: str, needed: str) -> Job:
        known = [*self.settings.before, *self.settings.methods, *(staged_name(*pair) for pair in self._staged())]
        if needed not in known:
            near = did_you_mean(needed, known)
            raise ConfigError(f"{name}.inputs: got {needed!r}; {near}give some of {', '.join(known)}")
        return self._get(needed)

    def _rows(self, configs: list[str], fields: Mapping[str, Any], inputs: Mapping[str, Job]) -> Path:
        """Where rows of these settings lie, so that all runs with them share them."""
        values = fill(leaves(configs, fields, VERBS["fit"]), {name: job.key for name, job in inputs.items()})
        prepare = {name: value for name, value in values.items() if name.startswith("data.prepare.")}
        if not prepare:
            raise ConfigError(
                f"data.rows: {', '.join(configs)} say neither where rows are nor how they are made (data.prepare); set "
                "one of the two there or in the table's fields"
            )
        text = json.dumps([prepare, contents_of(prepare)], sort_keys=True, default=str)
        return self.root / "rows" / hashlib.sha256(text.encode()).hexdigest()[:12]


def _keeps_rows(configs: list[str], fields: Mapping[str, Any]) -> bool:
    """Whether the rows lie where the configs say: these are the rows they mean, unless a field makes others of them."""
    makes_others = any(name == "data.prepare" or name.startswith("data.prepare.") for name in fields)
    return not makes_others and leaves(configs, {}, VERBS["fit"]).get("data.rows") is not None


def _check_configs(settings: TableSettings) -> None:
    """Raise ConfigError for a config that is not there, with the field that names it."""
    for config in settings.experiment:
        find_config("experiment", config)
    sections: dict[str, Mapping[str, Any]] = {
        "before": settings.before,
        "methods": settings.methods,
        "stages": settings.stages,
    }
    for section, steps in sections.items():
        for name, step in steps.items():
            for config in step.configs:
                find_config(f"{section}.{name}.configs", config)


_Model = tuple[Mapping[str, Any], Sequence[str]]
"""The fields of a verb that say which model it takes, and the inputs that they name."""


def _made_by(name: str) -> _Model:
    """The model of a job."""
    return {"model.path": f"{{{name}}}/model"}, [name]
