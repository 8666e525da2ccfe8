"""What a table's YAML says."""

import re
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from remit_lit.errors import ConfigError, not_among
from remit_lit.jobs.fields import Fields
from remit_lit.models.spec import ModelSpec
from remit_lit.verbs import VERBS

EVALUATE, AGREEMENT, INPUTS = "evaluate", "agreement", "inputs"
_KINDS = ("task", "progress", "mean_of", "cost", "curve")
KEPT = tuple(name for name, verb in VERBS.items() if verb.output)
"""Verbs that leave a result, which a job can keep."""
Cost = Literal["tokens", "flops", "first_run_flops", "further_run_flops", "seconds", "throughput_lost"]


@dataclass
class Step:
    """A command that methods need the result of.

    Attributes:
        verb: of ``python -m remit_lit``.
        configs: its YAML files.
        fields: its fields by dotted name. In a string, ``{seed}`` is the seed, and ``{NAME}`` the folder of the
            result of an input of that name, ``{NAME.rows}`` where the rows of such a run lie. Other braces are text.
        inputs: names of the steps, methods and stages (METHOD_STAGE) whose results the fields name. They are run first.
    """

    verb: str
    configs: list[str] = field(default_factory=list)
    fields: Fields = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)


@dataclass
class Method:
    """A column: a ``fit`` with the experiment's configs and these, a model that is there already, or published figures.

    Attributes:
        title: of the column.
        configs: laid over the experiment.
        fields: laid over the table's fields; with ``{seed}`` and ``{NAME}`` as in a step.
        inputs: as of a step, for ``fields`` and ``model``, beside the table's.
        model: a model to evaluate instead of training one, e.g. ``{base}/model``; or its path and revision, e.g.
            {path: allenai/OLMo-2-0425-1B, revision: stage1-step1907359-tokens4001B}, and what else a model has.
        unavailable: why there is nothing to run, so that its figures are published ones alone.
        post_train: whether its model goes through the table's stages.
    """

    title: str
    configs: list[str] = field(default_factory=list)
    fields: Fields = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    model: str | ModelSpec | None = None
    unavailable: str | None = None
    post_train: bool = True

    @property
    def is_trained(self) -> bool:
        """Whether the table trains it."""
        return self.model is None and self.unavailable is None

    @property
    def model_fields(self) -> dict[str, Any]:
        """The fields of a verb that say which model it takes, where one is there already."""
        given = ModelSpec(self.model) if isinstance(self.model, str) else self.model or ModelSpec()
        default = asdict(ModelSpec())
        return {f"model.{name}": value for name, value in asdict(given).items() if value != default[name]}


@dataclass
class RowSettings:
    """A row: a metric of a task; a figure on dev problems; a mean of such rows; what training cost; or how soon a curve
    reaches a value.

    Attributes:
        title: of the row.
        task: of the evaluation.
        metric: of the task, e.g. accuracy.
        progress: of the dev problems of a stage of post-training, e.g. pass@1.
        mean_of: names of such rows; the mean of their figures as they are shown (the paper's average).
        cost: tokens; flops, of the run as it was; with cached scores, first_run_flops, of the run that has all rows
            scored, and further_run_flops, of each later one; seconds; throughput_lost, a share of the baseline's tokens
            a second.
        curve: a figure that ``InLoopEvaluation`` measures in training, e.g. lab/accuracy; shown are the tokens until it
            reaches a value.
        reaches: that value; null: the baseline's last one.
        speed_up: of the curve: not the tokens, but the baseline's over them (the paper's "6x").
        higher_is_better: of the curve.
        scale: figures are shown times this, e.g. 100 for percent.
        decimals: of the shown figures.
    """

    title: str
    task: str | None = None
    metric: str | None = None
    progress: str | None = None
    mean_of: list[str] | None = None
    cost: Cost | None = None
    curve: str | None = None
    reaches: float | None = None
    speed_up: bool = False
    higher_is_better: bool = True
    scale: float = 1.0
    decimals: int = 2

    @property
    def of_model(self) -> bool:
        """Whether it is of each model, and so of each stage; else it is of the training."""
        return self.cost is None and self.curve is None

    @property
    def verb(self) -> str:
        """What measures the row's task."""
        return AGREEMENT if self.task == AGREEMENT else EVALUATE


@dataclass
class Published:
    """Figures of others, shown below ours and never mixed with them.

    Attributes:
        file: with ``source``, ``benchmarks`` and ``families``, such as baselines/results.yaml; its names of benchmarks
            and methods are those of the table's rows and methods.
        family: of the models that the figures are of, e.g. olmo2_1b.
    """

    file: str
    family: str


@dataclass
class Primary:
    """The one comparison that a table is made for, fixed before anything is run; all others are secondary.

    Attributes:
        row: the outcome, e.g. accuracy, or accuracy/RLVR after a stage.
        method: the method that is compared.
        control: what it is compared with, the table's baseline.
        smallest_effect: smallest difference that the table is to find, in the units shown; null: no design is said.
        sd: standard deviation of the difference over seeds, measured before, in the units shown; null: of the runs.
    """

    row: str
    method: str
    control: str
    smallest_effect: float | None = None
    sd: float | None = None


@dataclass
class TableSettings:
    """A grid of methods and seeds, what is measured of each, and how it is laid out.

    Attributes:
        title: what stands above the table.
        methods: the table's columns, by name and in order.
        rows: what is shown of each method, by name and in order.
        output: directory to write the finished table to.
        experiment: YAML files that every method's ``fit`` begins with.
        seeds: every method is run with each of them; more seeds make the intervals narrower.
        vary: further values for strings, by name, one for each seed, e.g. {documents: [1, 3, 5]}.
        block: the name in ``vary`` whose equal values make seeds a block, e.g. of one base model. Differences then get
            a second interval, over blocks: what another base would do, and not only another run from the same ones.
        before: steps that methods need, by name, such as a base model that is trained first.
        fields: fields that every method's ``fit`` is given, by dotted name.
        inputs: steps and methods whose results ``fields`` name; they are run first.
        stages: post-training that every method's model goes through, in order; ``{model}`` is the model before.
            Tasks and progress get a row for each stage.
        evaluate: fields of ``evaluate`` for every model, e.g. {tasks: [lab]}, and ``inputs`` as of a step.
        in_training: take the tasks' figures of a trained model from its ``fit``, which measured them at its end
            (``LabEvaluation``), and evaluate only the others.
        share_process: run the jobs of verbs that allow it one after the other in a few processes, which import what
            they need once. For runs of seconds on a CPU.
        agreement: the same of ``agreement``; its row's task is agreement.
        baseline: the method that others are compared with.
        primary: the comparison that the table is made for; without one every comparison is secondary.
        published: figures of others, shown below ours.
        notes: lines to print below the table.
    """

    title: str
    methods: dict[str, Method]
    rows: dict[str, RowSettings]
    output: str
    experiment: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0])
    vary: dict[str, list[Any]] = field(default_factory=dict)
    block: str | None = None
    before: dict[str, Step] = field(default_factory=dict)
    fields: Fields = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    stages: dict[str, Step] = field(default_factory=dict)
    evaluate: Fields | None = None
    in_training: bool = False
    share_process: bool = False
    agreement: Fields | None = None
    baseline: str | None = None
    primary: Primary | None = None
    published: Published | None = None
    notes: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Refuse what cannot be a table, before anything is run.

        Raises:
            ConfigError: naming the field, what it got and what would be right.
        """
        if not self.methods or not self.rows or not self.seeds:
            raise ConfigError("methods, rows, seeds: each needs at least one entry")
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds: got {self.seeds}; give each seed once")
        if self.baseline is not None and self.baseline not in self.methods:
            raise ConfigError(f"baseline: {not_among(self.baseline, self.methods)}")
        for name, values in self.vary.items():
            if len(values) != len(self.seeds):
                raise ConfigError(
                    f"vary.{name}: got {len(values)} values for {len(self.seeds)} seeds; give one for each"
                )
        if self.block is not None and self.block not in self.vary:
            raise ConfigError(f"block: {not_among(self.block, self.vary)} (the names in vary)")
        names = [*self.before, *self.methods, *self.vary, "seed"]
        names += [staged_name(method, stage) for method in self.methods for stage in self.stages]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(
                f"before, methods, stages, vary: {', '.join(twice)} named twice; give each a name of its own"
            )
        odd = [name for name in names if not re.fullmatch(r"\w+", name)]
        if odd:
            raise ConfigError(f"before, methods, stages, vary: got {odd[0]!r}; use letters, digits and _ only")
        for name, method in self.methods.items():
            if isinstance(method.model, ModelSpec) and method.model.path is None:
                raise ConfigError(f"methods.{name}.model.path: missing; give a hub id or directory")
            if method.model is not None and method.unavailable is not None:
                raise ConfigError(
                    f"methods.{name}.unavailable: got a reason, and there is a model; give one of the two"
                )
        titles = [method.title for method in self.methods.values()]
        if len(set(titles)) < len(titles):
            raise ConfigError(f"methods: got the titles {titles}; give each method a title of its own")
        for section, steps in (("before", self.before), ("stages", self.stages)):
            for name, step in steps.items():
                if step.verb not in KEPT:
                    raise ConfigError(f"{section}.{name}.verb: {not_among(step.verb, KEPT)}")
        for name, row in self.rows.items():
            kinds = [kind for kind in _KINDS if getattr(row, kind) is not None]
            if len(kinds) != 1:
                raise ConfigError(f"rows.{name}: got {kinds or 'none'}; give exactly one of {', '.join(_KINDS)}")
            measured = [other for other, its in self.rows.items() if its.of_model and its.mean_of is None]
            if row.mean_of is not None and (not row.mean_of or not set(row.mean_of) <= set(measured)):
                raise ConfigError(f"rows.{name}.mean_of: got {row.mean_of}; give some of {', '.join(measured)}")
            if row.progress is not None and not self.stages:
                raise ConfigError(
                    f"rows.{name}.progress: got {row.progress!r}, but the table has no stages that measure dev problems"
                )
            if row.task is not None and row.metric is None:
                raise ConfigError(f"rows.{name}.metric: missing; name a metric of the task {row.task}")
            if row.task is not None and getattr(self, row.verb) is None:
                raise ConfigError(f"{row.verb}: missing, and rows.{name}.task is {row.task!r}; give its fields")
            if row.speed_up and row.curve is None:
                raise ConfigError(f"rows.{name}.speed_up: got true without a curve; give one, e.g. lab/accuracy")
            if row.speed_up and self.baseline is None:
                raise ConfigError(f"rows.{name}.speed_up: got true, but there is no baseline; name one")
            if row.cost == "throughput_lost" and self.baseline is None:
                raise ConfigError(f"rows.{name}.cost: got throughput_lost, but there is no baseline; name one")
            if row.curve is not None and row.reaches is None and self.baseline is None:
                raise ConfigError(
                    f"rows.{name}.reaches: missing; give a value, or name a baseline, whose last value it then is"
                )
        if self.primary is not None:
            self._check_primary(self.primary)

    def _check_primary(self, primary: Primary) -> None:
        rows = {row_name(name, stage): row for name, row in self.rows.items() for stage in ("", *self.stages)}
        known = {
            "row": [name for name, row in rows.items() if row.of_model],
            "method": [name for name in self.methods if name != self.baseline],
            "control": [] if self.baseline is None else [self.baseline],
        }
        for name, choices in known.items():
            if getattr(primary, name) not in choices:
                raise ConfigError(f"primary.{name}: {not_among(getattr(primary, name), choices)}")
        for name in ("smallest_effect", "sd"):
            value = getattr(primary, name)
            if value is not None and not value > 0:
                raise ConfigError(f"primary.{name}: got {value}; give a number above 0")


def row_name(row: str, stage: str) -> str:
    """The row of a table for one of its rows' settings and a stage."""
    return f"{row}/{stage}" if stage else row


def staged_name(method: str, stage: str) -> str:
    """The name of a method's model after a stage."""
    return f"{method}_{stage}" if stage else method
