"""A panel's numbers, read from the folders of jobs: a line for each method and seed, or why there is none."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from remit_lit.errors import DataError
from remit_lit.evaluation.agreement import LOG_RATIO
from remit_lit.evaluation.results import Evaluation
from remit_lit.figures.settings import BEFORE, IN_TRAINING, MID_TRAINING, FigureSettings, Panel
from remit_lit.jobs.job import Job
from remit_lit.runs.history import read_history
from remit_lit.runs.metrics import read_metrics
from remit_lit.tables.collect import collect, require_done, require_trained
from remit_lit.tables.contents import Contents, Missing
from remit_lit.tables.costs import tokens_per_second
from remit_lit.tables.plan import TRAINED, Plan, Run
from remit_lit.tables.settings import AGREEMENT, TableSettings, row_name

Place = float | str
"""On the horizontal axis: a number, or the name of a stage."""


@dataclass(frozen=True)
class Line:
    """What one seed of a method shows.

    Attributes:
        points: (place, figure), in order, in the units shown.
        sd: of a distribution, its standard deviation in nats.
        missing: why points of it are missing; empty where none are.
    """

    points: list[tuple[Place, float]]
    sd: float | None = None
    missing: str = ""


@dataclass(frozen=True)
class Plot:
    """The numbers of a panel.

    Attributes:
        lines: by method and seed.
        missing: by method and seed, why there is no line, or not all of it.
        scale: what is shown for a measured value of 1, e.g. 100 for percent.
    """

    lines: dict[str, dict[int, Line]] = field(default_factory=dict)
    missing: dict[str, dict[int, str]] = field(default_factory=dict)
    scale: float = 1.0


def read_plot(figure: FigureSettings, panel: Panel, table: TableSettings, plan: Plan) -> Plot:
    """The lines of a panel's methods, the baseline's among them whether or not it is shown."""
    read, scale = _reader(figure, panel, table, plan)
    plot = Plot(scale=scale)
    for method in _needed(figure, table):
        plot.lines[method], plot.missing[method] = {}, {}
        for seed in table.seeds:
            try:
                line = read(method, seed)
            except Missing as reason:
                line = Line([], missing=str(reason))
            if line.points:
                plot.lines[method][seed] = line
            if line.missing:
                plot.missing[method][seed] = line.missing
    return plot


def jobs_of(figure: FigureSettings, table: TableSettings, plan: Plan) -> list[Job]:
    """The jobs that the panels show, without what they need."""
    runs = [plan[method, seed] for method in _needed(figure, table) for seed in table.seeds]
    return [job for panel in figure.panels.values() for run in runs for job in _jobs(figure, panel, table, run)]


def _needed(figure: FigureSettings, table: TableSettings) -> list[str]:
    """In the table's order."""
    return [name for name in table.methods if name in (*figure.series, table.baseline)]


def _jobs(figure: FigureSettings, panel: Panel, table: TableSettings, run: Run) -> Iterator[Job]:
    if panel.over == "log_ratio":
        yield from [run.evaluations[TRAINED, AGREEMENT]] if (TRAINED, AGREEMENT) in run.evaluations else []
        return
    yield from [] if run.fit is None else [run.fit]
    if panel.over == "stage" and figure.row_of(panel, table).of_model:
        row = figure.row_of(panel, table)
        measured = [table.rows[name] for name in row.mean_of or [figure.measure_of(panel)]]
        verbs = {row.verb for row in measured if row.task is not None}
        yield from run.stages.values()
        yield from (job for (_, verb), job in run.evaluations.items() if verb in verbs)


_Reader = Callable[[str, int], Line]


def _reader(figure: FigureSettings, panel: Panel, table: TableSettings, plan: Plan) -> tuple[_Reader, float]:
    """What reads the lines, and the scale of their figures."""
    measure = figure.measure_of(panel)
    if panel.over == "stage":
        row = figure.row_of(panel, table)
        methods = {name: table.methods[name] for name in _needed(figure, table)}
        rows = {name: table.rows[name] for name in (measure, *(row.mean_of or []))}
        contents = collect(replace(table, rows=rows, methods=methods, published=None), plan)
        return partial(_stages, panel, measure, table, contents), panel.scale * contents.rows[measure].scale
    if panel.over == "log_ratio":
        return partial(_distribution, table, plan), 1.0
    return partial(_course, panel, measure, table, plan), panel.scale


def _course(panel: Panel, measure: str, table: TableSettings, plan: Plan, method: str, seed: int) -> Line:
    """Over tokens, hours or steps of training."""
    fit = require_trained(table, plan, method, seed)
    points: list[tuple[float, float]]
    try:
        if panel.over in IN_TRAINING:
            points = [(at.tokens, at.figures[measure]) for at in read_history(fit.result) if measure in at.figures]
        else:
            points = [(float(step), value) for step, value in read_metrics(fit.result, measure)]
    except DataError as error:
        raise Missing(f"damaged: {error}") from error
    if not points:
        raise Missing(f"not measured: {fit.name} has no {measure}")
    if not all(math.isfinite(value) for _, value in points):
        raise Missing(f"not finite: {measure} of {fit.name}")
    tokens_per_hour = 3600 * tokens_per_second(fit) if panel.over == "hours" else 1.0
    return Line([(at / tokens_per_hour, panel.scale * value) for at, value in points])


def _stages(panel: Panel, measure: str, table: TableSettings, contents: Contents, method: str, seed: int) -> Line:
    """A row of the table after mid-training and after each stage."""
    row, settings = table.rows[measure], table.methods[method]
    points: list[tuple[Place, float]] = []
    missing = []
    for stage in (TRAINED, *(table.stages if row.of_model and settings.post_train else ())):
        name = row_name(measure, stage)
        first = MID_TRAINING if settings.is_trained or settings.unavailable else BEFORE
        values = _shown(panel, contents, name, method)
        others = _shown(panel, contents, name, table.baseline or "") if panel.gain else dict.fromkeys(values, 0.0)
        if seed in values and seed in others:
            points.append((stage or first, values[seed] - others[seed]))
        else:
            without = contents.entries[name, method if seed not in values else table.baseline or ""]
            missing.append(without.missing[seed] + (f", after {stage}" if stage else ""))
    return Line(points, missing="; ".join(missing) if points else missing[0])


def _shown(panel: Panel, contents: Contents, row: str, method: str) -> Mapping[int, float]:
    scale = panel.scale * contents.rows[row].scale
    found = {seed: scale * metric.value for seed, metric in contents.entries[row, method].metrics.items()}
    return {seed: value for seed, value in found.items() if math.isfinite(value)}


def _distribution(table: TableSettings, plan: Plan, method: str, seed: int) -> Line:
    """The density of the log ratio to the reference over held-out tokens, a point for each bin."""
    if table.methods[method].unavailable is not None:
        raise Missing(f"not run: {table.methods[method].unavailable}")
    job = plan[method, seed].evaluations[TRAINED, AGREEMENT]
    require_done(job)
    try:
        task = Evaluation.read(job.output).tasks[AGREEMENT]
    except (DataError, KeyError) as error:
        raise Missing(f"damaged: {error}; remove {job.folder} and run the figure again") from error
    if LOG_RATIO not in task.histograms:
        raise Missing(f"not recorded: {job.name} is of an earlier version; remove {job.folder} and run again")
    found = task.histograms[LOG_RATIO]
    width = (found.high - found.low) / len(found.counts)
    centres = found.low + width * (np.arange(len(found.counts)) + 0.5)
    density = found.counts / (found.counts.sum() * width)
    return Line(list(zip(centres.tolist(), density.tolist(), strict=True)), found.sd)
