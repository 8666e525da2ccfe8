"""A table as a page: it can be sorted, differences are drawn, and each figure leads to the runs that it is made of."""

import os.path
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from remit_lit import __version__
from remit_lit.files import write_whole
from remit_lit.jobs.job import Job, lineage
from remit_lit.pages.page import render
from remit_lit.tables import wording
from remit_lit.tables.collect import rows_of
from remit_lit.tables.drawing import for_page, styles
from remit_lit.tables.plan import TRAINED, Plan, Run, jobs_of
from remit_lit.tables.settings import RowSettings, TableSettings
from remit_lit.tables.summary import SIGNIFICANT, Cell, Difference, Summary

_ASSETS = Path(__file__).parent / "page"
_SCRIPTS = ("cells.js", "forest.js", "main.js")


def write_page(summary: Summary, settings: TableSettings, plan: Plan, directory: Path) -> Path:
    """Write ``table.html``.

    Args:
        summary: the table.
        settings: it was made of.
        plan: its jobs, to whose folders the page leads.
        directory: of the file, to which links are relative.

    Returns:
        The file.
    """
    path = directory / "table.html"
    write_whole(path, render(summary.contents.title, _contents(summary, settings, plan, directory), _ASSETS, _SCRIPTS))
    return path


def _contents(summary: Summary, settings: TableSettings, plan: Plan, directory: Path) -> dict[str, Any]:
    """What the page reads, in the words and digits of ``table.md``."""
    contents = summary.contents
    looks = styles(contents.columns, contents.baseline)
    return {
        "version": __version__,
        "baseline": contents.baseline,
        "columns": {
            name: {"title": wording.column_title(summary, name), "look": for_page(looks[name])}
            for name in contents.columns
        },
        "rows": {
            name: {
                "title": wording.row_title(summary, name),
                "higherIsBetter": summary.higher_is_better[name],
                "cells": {column: _cell(summary, name, column) for column in contents.columns},
                "differences": _differences(summary, name),
            }
            for name in contents.rows
        },
        "made": _made(settings, plan),
        "jobs": _jobs(plan, directory),
        "legend": wording.legend(summary),
        "differenceHeader": wording.difference_header(summary)[1:],
        "differencesLegend": wording.differences_legend(summary) if wording.differences(summary) else [],
    }


def _cell(summary: Summary, name: str, column: str) -> dict[str, Any]:
    cell, row = summary.cells[name, column], summary.contents.rows[name]
    return {
        "figure": wording.figure(cell, row),
        "remarks": wording.remarks(cell),
        "published": wording.published(cell, row),
        "isBold": cell.bold,
        "mean": cell.mean,
        "seeds": [[seed, text] for seed, text in sorted(_seeds(cell, summary, name).items())],
    }


def _seeds(cell: Cell, summary: Summary, name: str) -> dict[int, str]:
    row = summary.contents.rows[name]
    found = {seed: wording.number(value, row) for seed, value in cell.values.items()}
    said = {seed: f"{found[seed]}, {reason}" for seed, reason in cell.censored.items() if seed in found}
    return {**found, **said, **cell.missing}


def _differences(summary: Summary, name: str) -> list[dict[str, Any]]:
    found = {column: summary.cells[name, column].difference for column in summary.contents.columns}
    return [_difference(summary, name, column, one) for column, one in found.items() if one is not None]


def _difference(summary: Summary, name: str, column: str, found: Difference) -> dict[str, Any]:
    interval = found.over_seeds or found.over_items
    _, *texts = wording.difference_texts(summary, name, found)
    return {
        "column": column,
        "mean": found.mean,
        "ends": None if interval is None else [interval.low, interval.high],
        "isOverItems": found.over_seeds is None,
        "isPrimary": found.primary,
        "isSignificant": found.p_holm is not None and found.p_holm < SIGNIFICANT,
        "texts": texts,
    }


def _made(settings: TableSettings, plan: Plan) -> dict[str, dict[str, dict[int, list[str]]]]:
    """By row, column and seed, the keys of the jobs that a figure is made of, in the order in which they ran."""
    return {
        name: {
            method: {seed: [job.key for job in _behind(plan[method, seed], row, stage)] for seed in settings.seeds}
            for method in settings.methods
        }
        for name, row, stage in rows_of(settings)
    }


def _behind(run: Run, row: RowSettings, stage: str) -> Iterable[Job]:
    """The training, the stages up to one of them, and what measured its model."""
    if run.fit is not None:
        yield run.fit
    if stage != TRAINED and stage in run.stages:
        yield from list(run.stages.values())[: list(run.stages).index(stage) + 1]
    if row.of_model and (stage, row.verb) in run.evaluations:
        yield run.evaluations[stage, row.verb]


def _jobs(plan: Plan, directory: Path) -> Mapping[str, Mapping[str, Any]]:
    """Of each job what the record has of it, and where its folder lies; null where it is not there."""
    return {
        job["key"]: {
            "name": job["name"],
            "state": job["state"],
            "command": job["command"],
            "folder": _link(Path(job["result"]), directory),
        }
        for job in lineage(jobs_of(plan))
    }


def _link(folder: Path, directory: Path) -> str | None:
    return quote(f"./{os.path.relpath(folder, directory)}/") if folder.is_dir() else None
