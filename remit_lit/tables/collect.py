"""What the cells of a table found, as its contents."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from remit_lit.callbacks.run_record import RECORD
from remit_lit.cells.cell import Cell
from remit_lit.data.manifest import read_manifest
from remit_lit.errors import ConfigError
from remit_lit.evaluation.history import read_history
from remit_lit.evaluation.results import Evaluation, Metric
from remit_lit.tables.contents import Contents, Entry, Row
from remit_lit.tables.curves import Curve, tokens_to_target
from remit_lit.tables.plan import TRAINED, Run
from remit_lit.tables.settings import RowSettings, TableSettings

Plan = Mapping[tuple[str, int], Run]


class _Missing(Exception):  # noqa: N818
    """Why a figure is not there."""


def collect(settings: TableSettings, plan: Plan) -> Contents:
    """The figures of all cells that are done, and of the others why there are none.

    Raises:
        ConfigError: the file of published figures cannot be read.
        DataError: a result is damaged.
    """
    entries: dict[tuple[str, str], Entry] = {}
    rows: dict[str, Row] = {}
    for name, row, stage in _rows(settings):
        title = f"{row.title}, after {stage}" if stage else row.title
        rows[name] = Row(title, row.scale, row.decimals, compared=row.cost is None)
        for method in settings.methods:
            found: dict[int, Metric] = {}
            missing: dict[int, str] = {}
            for seed in settings.seeds:
                try:
                    found[seed] = _figure(settings, plan, row, stage, method, seed)
                except _Missing as reason:
                    missing[seed] = str(reason)
            entries[name, method] = Entry(found, missing)
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
    )


def row_name(row: str, stage: str) -> str:
    """The row of a table for one of its rows' settings and a stage."""
    return f"{row}/{stage}" if stage else row


def _rows(settings: TableSettings) -> list[tuple[str, RowSettings, str]]:
    """Names and settings of the rows, and the stage that each is of."""
    rows = []
    for name, row in settings.rows.items():
        for stage in [TRAINED, *(settings.stages if row.of_model else [])]:
            rows.append((row_name(name, stage), row, stage))
    return rows


def learning_curves(settings: TableSettings, plan: Plan, curve: str) -> dict[str, dict[int, Curve]]:
    """A figure over the tokens trained on, by method and seed, of the runs that are done."""
    curves: dict[str, dict[int, Curve]] = {}
    for (method, seed), run in plan.items():
        if run.fit is not None and run.fit.state == "done":
            points = [(p.tokens, p.figures[curve]) for p in read_history(run.fit.result) if curve in p.figures]
            if points:
                curves.setdefault(method, {})[seed] = points
    return curves


def _figure(settings: TableSettings, plan: Plan, row: RowSettings, stage: str, method: str, seed: int) -> Metric:
    run = plan[method, seed]
    if row.mean_of is not None:
        return _mean(settings, plan, row.mean_of, stage, method, seed)
    if (stage or row.progress) and not run.stages:
        raise _Missing("not post-trained")
    if row.task is not None:
        return _evaluated(run, row, stage)
    if row.progress is not None:
        return _progressed(run, row.progress, stage)
    if run.fit is None:
        raise _Missing("not trained")
    _require_done(run.fit)
    if row.cost is not None:
        return Metric(np.array([_cost(run.fit.result, row.cost)]), None)
    assert row.curve is not None
    points = learning_curves(settings, {(method, seed): run}, row.curve).get(method, {}).get(seed)
    if points is None:
        raise _Missing(f"{row.curve} was not evaluated in training")
    target = row.reaches
    if target is None:
        assert settings.baseline is not None
        curves = learning_curves(settings, plan, row.curve).get(settings.baseline, {})
        if seed not in curves:
            raise _Missing(f"{settings.baseline} has no curve to compare with")
        target = curves[seed][-1][1]
    reached = tokens_to_target(points, target, higher_is_better=row.higher_is_better)
    if reached is None:
        raise _Missing(f"not reached: the target is {target:.4g}")
    return Metric(np.array([reached]), None)


def _mean(settings: TableSettings, plan: Plan, rows: list[str], stage: str, method: str, seed: int) -> Metric:
    found = [_figure(settings, plan, settings.rows[name], stage, method, seed) for name in rows]
    directions = {metric.higher_is_better for metric in found}
    if len(directions) > 1:
        raise ConfigError(f"rows: {', '.join(rows)} have no mean: of some more is better, of others not")
    shown = [settings.rows[name].scale * metric.value for name, metric in zip(rows, found, strict=True)]
    return Metric(np.array([np.mean(shown)]), directions.pop())


def _progressed(run: Run, figure: str, stage: str) -> Metric:
    """What a stage measured on dev problems; of the model before all of them, what the first one did before."""
    cell = run.stages[stage] if stage else next(iter(run.stages.values()))
    _require_done(cell)
    found: dict[str, float] = _record(cell.result).get("after" if stage else "before", {})
    if figure not in found:
        raise ConfigError(
            f"rows: {cell.name} measured no {figure!r} on dev problems; it has {', '.join(found) or 'none'}"
        )
    return Metric(np.array([found[figure]]), True)


def _evaluated(run: Run, row: RowSettings, stage: str) -> Metric:
    assert row.task is not None and row.metric is not None
    cell = run.evaluations[stage, row.verb]
    _require_done(cell)
    tasks = Evaluation.read(cell.output).tasks
    if row.task not in tasks:
        raise ConfigError(f"rows: {cell.name} has no task {row.task!r}; it has {', '.join(tasks)}")
    task = tasks[row.task]
    if task.not_run is not None:
        raise _Missing(f"not run: {task.not_run}")
    if row.metric not in task.metrics:
        raise ConfigError(f"rows: {row.task} has no metric {row.metric!r}; it has {', '.join(task.metrics)}")
    return task.metrics[row.metric]


def _require_done(cell: Cell) -> None:
    if cell.state == "failed":
        raise _Missing(f"failed: {cell.name}: {cell.outcome['error']}")
    if cell.state != "done":
        raise _Missing("not run" if cell.state == "missing" else "not finished")


def _cost(run_dir: Path, cost: str) -> float:
    costs = _record(run_dir)["cost"]
    if cost == "flops":
        return float(costs["policy_flops"] + costs["reference_flops"])
    return float(costs["policy_flops" if cost == "flops_cached" else cost])


def _record(run_dir: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((run_dir / RECORD).read_text())
    return record


def _published(settings: TableSettings) -> tuple[dict[tuple[str, str], float], str]:
    if settings.published is None:
        return {}, ""
    path = settings.published.file
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path))
        columns, rows, source = content["columns"], content["rows"], content["source"]
    except (OSError, KeyError, TypeError) as error:
        raise ConfigError(f"published.file: {path} has no source, columns and rows ({error!r})") from error
    figures = {
        (row, column): float(value)
        for row, values in rows.items()
        for column, value in zip(columns, values, strict=True)
        if value is not None and row in settings.rows and column in settings.methods
    }
    return figures, source


def _warnings(settings: TableSettings, plan: Plan) -> list[str]:
    """Whether rows were prepared without looking for the evaluated items among the documents."""
    tasks = {row.task for row in settings.rows.values() if row.task is not None}
    unclean: set[str] = set()
    for run in plan.values():
        if run.fit is None or run.fit.state != "done":
            continue
        manifest = read_manifest(Path(OmegaConf.load(run.fit.result / "config.yaml").data.rows))
        unclean |= tasks - set(manifest.decontaminated_tasks)
    if not unclean:
        return []
    return [f"Training rows were prepared without --decontaminate against {', '.join(sorted(unclean))}."]
