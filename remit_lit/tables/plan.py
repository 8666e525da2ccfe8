"""From a table's YAML to the cells that it is made of."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remit_lit.errors import ConfigError
from remit_lit.jobs.fields import fill, leaves
from remit_lit.jobs.fingerprint import contents_of
from remit_lit.jobs.job import Cell
from remit_lit.tables.settings import AGREEMENT, EVALUATE, TableSettings, staged_name

_NAME = re.compile(r"\{(\w+)\}")


TRAINED = ""
"""The stage of a method's model before any post-training."""


@dataclass(frozen=True)
class Run:
    """The cells of one method and seed.

    Attributes:
        fit: the training; None for a model that is there already.
        stages: of post-training, in order.
        evaluations: by stage and verb, evaluate or agreement.
    """

    fit: Cell | None
    stages: Mapping[str, Cell]
    evaluations: Mapping[tuple[str, str], Cell]

    @property
    def cells(self) -> list[Cell]:
        """All of them."""
        return [*([] if self.fit is None else [self.fit]), *self.stages.values(), *self.evaluations.values()]


Plan = Mapping[tuple[str, int], Run]
"""The runs of a table by method and seed."""


def cells_of(plan: Plan) -> list[Cell]:
    """The cells of all runs, without what they need."""
    return [cell for run in plan.values() for cell in run.cells]


def make_plan(settings: TableSettings, root: Path) -> Plan:
    """The runs of a table by method and seed.

    Args:
        settings: the table.
        root: directory of the cells.

    Raises:
        ConfigError: a ``{NAME}`` that nothing has, a circle of them, or a config that cannot be read.
    """
    plan = {}
    for number, seed in enumerate(settings.seeds):
        values = {"seed": str(seed), **{name: str(given[number]) for name, given in settings.vary.items()}}
        cells = _Seed(settings, root, seed, values)
        for name in settings.methods:
            plan[name, seed] = cells.run(name)
    return plan


@dataclass
class _Seed:
    """The cells of one seed, each made when it is first needed."""

    settings: TableSettings
    root: Path
    seed: int
    values: Mapping[str, str]
    made: dict[str, Cell] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def run(self, name: str) -> Run:
        method = self.settings.methods[name]
        fit = self._get(name) if method.model is None else None
        models = {TRAINED: _model_of(name) if method.model is None else method.model}
        stages = {stage: self._get(staged_name(name, stage)) for stage in self.settings.stages if method.post_train}
        models |= {stage: _model_of(staged_name(name, stage)) for stage in stages}
        evaluations = {}
        for stage, model in models.items():
            for verb, fields in ((EVALUATE, self.settings.evaluate), (AGREEMENT, self.settings.agreement)):
                if fields is not None:
                    called = f"{verb}-{staged_name(name, stage)}"
                    evaluations[stage, verb] = self._cell(called, verb, [], {"model.path": model, **fields})
        return Run(fit, stages, evaluations)

    def _get(self, name: str) -> Cell:
        """The cell of a step or of a method's training."""
        if name in self.asked:
            raise ConfigError(f"before, methods: {' -> '.join([*self.asked, name])} need each other in a circle")
        if name not in self.made:
            self.asked.append(name)
            self.made[name] = self._make(name)
            self.asked.pop()
        return self.made[name]

    def _make(self, name: str) -> Cell:
        settings = self.settings
        if name in settings.before:
            step = settings.before[name]
            return self._cell(name, step.verb, step.configs, step.fields)
        if name not in settings.methods:
            return self._make_stage(name)
        method = settings.methods[name]
        fields = {**settings.fields, **method.fields}
        return self._cell(name, "fit", [*settings.experiment, *method.configs], fields)

    def _make_stage(self, name: str) -> Cell:
        method, stage = next(pair for pair in self._staged() if staged_name(*pair) == name)
        before = list(self.settings.stages)[: list(self.settings.stages).index(stage)]
        given = self.settings.methods[method].model
        model = _model_of(staged_name(method, before[-1])) if before else given or _model_of(method)
        step = self.settings.stages[stage]
        fields = {"model.path": "{model}", **step.fields}
        return self._cell(name, step.verb, step.configs, fill(fields, {"model": model}))

    def _staged(self) -> list[tuple[str, str]]:
        return [(method, stage) for method in self.settings.methods for stage in self.settings.stages]

    def _cell(self, name: str, verb: str, configs: list[str], fields: Mapping[str, Any]) -> Cell:
        filled = fill(dict(fields), self.values)
        inputs = {}
        for needed in sorted(set(_NAME.findall(json.dumps(filled, default=str)))):
            steps = [*self.settings.before, *self.settings.methods, *(staged_name(*pair) for pair in self._staged())]
            if needed not in steps:
                known = [*self.values, *steps]
                raise ConfigError(f"{name}: no {{{needed}}}; there are {', '.join(known)}")
            inputs[needed] = self._get(needed)
        places = {}
        if verb == "fit" and "data.rows" not in filled:
            filled["data.rows"], places["rows"] = "{rows}", str(self._rows(configs, filled, inputs))
        # What takes as long: the same configs, or where there are none the same fields, of whatever model.
        kind = [verb, *(configs or (f"{key}={value}" for key, value in filled.items() if key != "model.path"))]
        return Cell(f"{name}-{self.seed}", self.root, verb, tuple(configs), filled, inputs, places, " ".join(kind))

    def _rows(self, configs: list[str], fields: Mapping[str, Any], inputs: Mapping[str, Cell]) -> Path:
        """Where rows of these settings lie, so that all runs with them share them."""
        values = fill(leaves(configs, fields), {name: cell.key for name, cell in inputs.items()})
        prepare = {name: value for name, value in values.items() if name.startswith("data.prepare.")}
        if not prepare:
            raise ConfigError(
                f"data.prepare: {', '.join(configs)} say not how rows are made; set it there, or data.rows in the "
                "table's fields"
            )
        text = json.dumps([prepare, contents_of(prepare)], sort_keys=True, default=str)
        return self.root / "rows" / hashlib.sha256(text.encode()).hexdigest()[:12]


def _model_of(name: str) -> str:
    return f"{{{name}}}/model"
