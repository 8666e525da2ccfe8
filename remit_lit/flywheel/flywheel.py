"""``flywheel``: round after round, for as long as the RL-tuned model becomes better."""

import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from remit_lit.cells.cell import VERBS
from remit_lit.cells.runner import run_cells
from remit_lit.errors import ConfigError
from remit_lit.flywheel.figure import draw_rounds
from remit_lit.flywheel.settings import FlywheelSettings, method_name
from remit_lit.tables.collect import collect, row_name
from remit_lit.tables.contents import Contents, Entry, Row
from remit_lit.tables.plan import cells_of, make_plan
from remit_lit.tables.render import write_table
from remit_lit.tables.summary import summarize
from remit_lit.tables.table import print_plan, write_record
from remit_lit.tables.terminal import print_table


def turn(settings: FlywheelSettings, rounds: int, cells: str, jobs: int, *, dry_run: bool) -> Path:
    """Run so many rounds, or fewer; print and write the table of all, a figure, and ``record.json`` with the lineage.

    Args:
        settings: the flywheel.
        rounds: at most.
        cells: directory of the cells, shared with tables.
        jobs: cells at a time; they share the cores.
        dry_run: print the plan with what each cell may take, and do nothing.

    Returns:
        The directory of the table.

    Raises:
        ConfigError: settings that cannot go round.
    """
    settings.check()
    if rounds < 1:
        raise ConfigError(f"rounds: got {rounds}; give at least 1")
    settings.table(rounds).check(tuple(VERBS))
    console, output = Console(width=None if sys.stdout.isatty() else 120), Path(settings.output)
    if dry_run:
        print_plan(cells_of(make_plan(settings.table(rounds), Path(cells))), jobs, console)
        return output
    for done in range(1, rounds + 1):
        plan = make_plan(settings.table(done), Path(cells))
        run_cells(cells_of(plan), jobs, lambda line: console.print(line, soft_wrap=True, highlight=False))
        found = collect(settings.table(done), plan)
        better, why = judge(settings, found, done)
        console.print(f"round {done}: {why}", soft_wrap=True, highlight=False)
        if not better:
            break
    contents = by_round(settings, found, done, why)
    summary = summarize(contents)
    write_table(summary, output)
    write_record(output, cells_of(plan))
    draw_rounds(
        _over_rounds(settings, found, done),
        settings.arms[settings.first].title,
        output / "rounds",
        measured=settings.rows[settings.judge].title,
        title=f"{settings.title}: RL-tuned models",
    )
    print_table(summary, console)
    return output


def judge(settings: FlywheelSettings, found: Contents, round_: int) -> tuple[bool, str]:
    """Whether the judged arm's RL-tuned model is better on dev problems than the one before, and what says so."""
    row, scale = row_name(settings.judge, settings.last_stage), settings.rows[settings.judge].scale
    now, before = method_name(settings.judged, round_), settings.before_round(settings.judged, round_)
    means = []
    for method in (before, now):
        entry = found.entries[row, method]
        if entry.missing:
            reason = next(iter(entry.missing.values()))
            return False, f"stops, since {found.columns[method]} has no {settings.judge} at its end: {reason}"
        means.append(scale * sum(metric.value for metric in entry.found.values()) / len(entry.found))
    title = f"{settings.rows[settings.judge].title} of the RL-tuned model"
    if means[1] <= means[0]:
        return False, f"stops, since {title} is {means[1]:.4g}, not above the {means[0]:.4g} of the round before"
    return True, f"{title} is {means[1]:.4g}, above the {means[0]:.4g} of the round before"


def by_round(settings: FlywheelSettings, found: Contents, rounds: int, why: str) -> Contents:
    """The table with rounds and stages as rows and arms as columns."""
    rows: dict[str, Row] = {}
    entries: dict[tuple[str, str], Entry] = {}
    alone = dict.fromkeys(settings.seeds, f"round 0 is that of {settings.arms[settings.first].title} alone")
    for round_ in range(rounds + 1):
        for name, row in found.rows.items():
            key = f"{round_}/{name}"
            rows[key] = replace(row, title=f"round {round_}: {row.title}")
            for arm in settings.arms:
                entries[key, arm] = found.entries.get((name, method_name(arm, round_)), Entry(missing=alone))
    titles = {name: arm.title for name, arm in settings.arms.items()}
    notes = (*settings.notes, f"After round {rounds} of the flywheel: {why}.", *found.notes)
    return Contents(settings.title, rows, titles, settings.first, entries, notes=notes)


def _over_rounds(settings: FlywheelSettings, found: Contents, rounds: int) -> dict[str, dict[int, list[float]]]:
    """What judges, after the last stage, by arm's title and round, of each seed."""
    row, scale = row_name(settings.judge, settings.last_stage), settings.rows[settings.judge].scale
    series: dict[str, dict[int, list[float]]] = {}
    for name, arm in settings.arms.items():
        for round_ in range(rounds + 1):
            # All arms begin with the first reference.
            method = method_name(settings.first if round_ == 0 else name, round_)
            values = [scale * metric.value for metric in found.entries[row, method].found.values()]
            if values:
                series.setdefault(arm.title, {})[round_] = values
    return series
