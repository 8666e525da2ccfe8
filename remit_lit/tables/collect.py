"""The metrics of a table's finished jobs, read from their folders."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from remit_lit.data.manifest import read_manifest
from remit_lit.errors import ConfigError, DataError, did_you_mean
from remit_lit.evaluation.results import Evaluation, Metric, TaskResult, pass_at_k
from remit_lit.jobs.job import Job
from remit_lit.runs.folder import CONFIG, EVALUATION
from remit_lit.tables.contents import Contents, Entry, Missing, Row
from remit_lit.tables.costs import cost_of, record_of
from remit_lit.tables.plan import TRAINED, Plan, Run
from remit_lit.tables.published import Figures, read_published
from remit_lit.tables.reaching import reached
from remit_lit.tables.settings import EVALUATE, Cost, RowSettings, TableSettings, row_name


def collect(settings: TableSettings, plan: Plan) -> Contents:
    """The metrics of all finished jobs, and the reasons why others are missing.

    Raises:
        ConfigError: the file of published figures cannot be read.
    """
    entries: dict[tuple[str, str], Entry] = {}
    rows: dict[str, Row] = {}
    for name, row, stage in rows_of(settings):
        title = f"{row.title}, after {stage}" if stage else row.title
        scale = row.scale * (_common_scale(settings, row) or 1.0)
        rows[name] = Row(title, scale, row.decimals, compared=row.of_model, log=row.curve is not None)
        for method in settings.methods:
            metrics: dict[int, Metric] = {}
            missing: dict[int, str] = {}
            censored: dict[int, str] = {}
            for seed in settings.seeds:
                try:
                    if row.curve is None:
                        metrics[seed] = _figure(settings, plan, row, stage, method, seed)
                        continue
                    require_trained(settings, plan, method, seed)
                    found, target = reached(settings, plan, row, method, seed)
                    metrics[seed] = Metric(np.array([found.value]), None)
                    if found.censored:
                        censored[seed] = f"never reaches {target}"
                except Missing as reason:
                    missing[seed] = str(reason)
            fixed = _is_fixed(settings, plan, row, stage, method)
            entries[name, method] = Entry(metrics, missing, fixed, censored, "at most" if row.speed_up else "at least")
    published, source = _published(settings)
    return Contents(
        settings.title,
        rows,
        {name: method.title for name, method in settings.methods.items()},
        settings.baseline,
        entries,
        published,
        source,
        (*settings.notes, *_warnings(settings, plan)),
        settings.primary,
        _varied(settings),
        settings.block,
    )


def _varied(settings: TableSettings) -> dict[int, dict[str, str]]:
    """What each seed stands for, by the names of ``vary``."""
    return {
        seed: {name: str(values[number]) for name, values in settings.vary.items()}
        for number, seed in enumerate(settings.seeds)
    }


def _common_scale(settings: TableSettings, row: RowSettings) -> float | None:
    """The scale that all the rows of a mean have, if it is one."""
    scales = {settings.rows[name].scale for name in row.mean_of or []}
    return scales.pop() if len(scales) == 1 else None


def _is_fixed(settings: TableSettings, plan: Plan, row: RowSettings, stage: str, method: str) -> bool:
    """Whether all seeds share one model in this row."""
    jobs = [plan[method, seed].evaluations.get((stage, row.verb)) for seed in settings.seeds]
    return len(jobs) > 1 and row.of_model and len({job.key for job in jobs if job is not None}) == 1


def rows_of(settings: TableSettings) -> list[tuple[str, RowSettings, str]]:
    """Names and settings of the rows, and the stage that each is of."""
    rows = []
    for name, row in settings.rows.items():
        for stage in [TRAINED, *(settings.stages if row.of_model else [])]:
            rows.append((row_name(name, stage), row, stage))
    return rows


def _figure(settings: TableSettings, plan: Plan, row: RowSettings, stage: str, method: str, seed: int) -> Metric:
    run, unavailable = plan[method, seed], settings.methods[method].unavailable
    if unavailable is not None:
        raise Missing(f"not run: {unavailable}")
    if row.mean_of is not None:
        return _mean(settings, plan, row, stage, method, seed)
    if (stage or row.progress) and not run.stages:
        raise Missing("not post-trained")
    if row.task is not None:
        return _evaluated(run, row, stage)
    if row.progress is not None:
        return _progressed(run, row.progress, stage)
    assert row.cost is not None
    fit = require_trained(settings, plan, method, seed)
    return Metric(np.array([cost_of(fit, row.cost, _baseline(settings, plan, row.cost, seed))]), None)


def require_trained(settings: TableSettings, plan: Plan, method: str, seed: int) -> Job:
    """The training of a method, which is done.

    Raises:
        Missing: why it is not.
    """
    fit, unavailable = plan[method, seed].fit, settings.methods[method].unavailable
    if unavailable is not None:
        raise Missing(f"not run: {unavailable}")
    if fit is None:
        raise Missing("not trained")
    require_done(fit)
    return fit


def _baseline(settings: TableSettings, plan: Plan, cost: Cost, seed: int) -> Job | None:
    """The baseline's training, where a cost is compared with it."""
    if cost != "throughput_lost" or settings.baseline is None:
        return None
    fit = plan[settings.baseline, seed].fit
    if fit is not None:
        require_done(fit)
    return fit


def _mean(settings: TableSettings, plan: Plan, row: RowSettings, stage: str, method: str, seed: int) -> Metric:
    """Of other rows as they are shown; where all have one scale, in the unit below it, so that shares stay shares."""
    rows, common = row.mean_of or [], _common_scale(settings, row)
    metrics = [_figure(settings, plan, settings.rows[name], stage, method, seed) for name in rows]
    directions = {metric.higher_is_better for metric in metrics}
    if len(directions) > 1:
        raise ConfigError(f"rows: {', '.join(rows)} cannot be averaged: higher is better for some, but not for all")
    scales = [1.0 if common else settings.rows[name].scale for name in rows]
    shown = [scale * metric.value for scale, metric in zip(scales, metrics, strict=True)]
    return Metric(np.array([np.mean(shown)]), directions.pop())


def _progressed(run: Run, figure: str, stage: str) -> Metric:
    """What a stage measured on dev problems after training; before all stages, what the first measured at its start."""
    job = run.stages[stage] if stage else next(iter(run.stages.values()))
    require_done(job)
    record, when = record_of(job), "after" if stage else "before"
    figures: dict[str, float] = record.get(when, {})
    if figure not in figures:
        known = {**record.get("before", {}), **record.get("after", {})}
        if figure in known:
            raise Missing("not measured")
        raise ConfigError(
            f"rows: {job.name} measured no {figure!r} on dev problems; it measured {', '.join(known) or 'nothing'}"
        )
    if not figure.startswith("pass@"):
        return Metric(np.array([figures[figure]]), None)
    samples, solved = record["solved"]["samples"], record["solved"][when]
    k = int(figure.removeprefix("pass@"))
    return Metric(np.array([pass_at_k(samples, count, k) for count in solved]), True)


def _evaluated(run: Run, row: RowSettings, stage: str) -> Metric:
    assert row.task is not None and row.metric is not None
    job = run.evaluations.get((stage, row.verb), run.fit)  # the fit where it measured itself, with `in_training`
    assert job is not None
    require_done(job)
    try:
        path = job.result / EVALUATION
        tasks = _tasks(path, path.stat().st_mtime_ns)
    except (DataError, OSError) as error:
        raise Missing(f"damaged: {error}; remove {job.folder} and run the table again") from error
    if row.task not in tasks:
        raise ConfigError(
            f"rows: {job.name} has no task {row.task!r}; {did_you_mean(str(row.task), tasks)}it has {', '.join(tasks)}"
        )
    task = tasks[row.task]
    if task.not_run is not None:
        raise Missing(f"not run: {task.not_run}")
    if row.metric not in task.metrics:
        raise ConfigError(
            f"rows: {row.task} has no metric {row.metric!r}; {did_you_mean(str(row.metric), task.metrics)}it has "
            f"{', '.join(task.metrics)}"
        )
    return task.metrics[row.metric]


@cache  # a file is large, and asked for once for each row
def _tasks(path: Path, changed: int) -> Mapping[str, TaskResult]:
    return Evaluation.read(path).tasks


def require_done(job: Job) -> None:
    """Raise Missing with the reason, unless the job is done."""
    if job.state == "failed":
        raise Missing(f"failed: {job.name}: {job.outcome['error']}")
    if job.state == "damaged":
        raise Missing(f"damaged: {job.damage}; run the table again, which makes it anew")
    if job.state != "done":
        raise Missing("not run" if job.state == "missing" else "not finished")


def _published(settings: TableSettings) -> tuple[Figures, str]:
    """Those that the table has a row and a method for."""
    if settings.published is None:
        return {}, ""
    figures, source = read_published(settings.published)
    shown = {(row, column): value for (row, column), value in figures.items() if row in settings.rows}
    return {place: value for place, value in shown.items() if place[1] in settings.methods}, source


def _warnings(settings: TableSettings, plan: Plan) -> list[str]:
    """A note naming the evaluated tasks whose items may be in the training rows."""
    tasks = {row.task for row in settings.rows.values() if row.task is not None and row.verb == EVALUATE}
    unclean: set[str] = set()
    for run in plan.values():
        if run.fit is None or run.fit.state != "done":
            continue
        try:
            manifest = read_manifest(OmegaConf.load(run.fit.result / CONFIG).data.rows)
        except (OSError, ConfigError, DataError):  # nothing is known of rows that are gone
            unclean |= tasks
        else:
            unclean |= tasks - set(manifest.decontaminated_tasks)
    if not unclean:
        return []
    return [f"Training rows were prepared without --decontaminate against {', '.join(sorted(unclean))}."]
