"""``flywheel``: round after round, for as long as the judged arm is better than its control."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from remit_lit.errors import ConfigError
from remit_lit.flywheel.judging import judge, require_same_documents, rule
from remit_lit.flywheel.settings import FlywheelSettings, method_name
from remit_lit.flywheel.spent import NOTE, ROWS, spent
from remit_lit.jobs.cluster import SlurmSettings
from remit_lit.jobs.report import print_plan, require_done, write_record
from remit_lit.jobs.scheduler import Check, run_jobs
from remit_lit.tables.collect import collect
from remit_lit.tables.contents import Contents, Entry, Row
from remit_lit.tables.courses import draw_rounds
from remit_lit.tables.plan import Plan, jobs_of, make_plan
from remit_lit.tables.settings import row_name
from remit_lit.tables.summary import summarize
from remit_lit.tables.table import write_table
from remit_lit.tables.terminal import print_table
from remit_lit.terminal import console


def turn(
    settings: FlywheelSettings,
    rounds: int,
    cells: str,
    jobs: int | None,
    *,
    dry_run: bool,
    slurm: SlurmSettings | None = None,
    check: Check | None = None,
) -> Path:
    """Run so many rounds, or fewer; print and write the table of all, a figure, and ``record.json`` with the lineage.

    Args:
        settings: the flywheel.
        rounds: at most.
        cells: directory of the jobs, shared with tables.
        jobs: jobs at a time; None: one on this machine, all that are ready on a cluster.
        dry_run: print the plan with what each job may take, and run nothing.
        slurm: what to ask a cluster for that runs the jobs; None: this machine runs them.
        check: reads the command lines of the jobs before the first of them runs; None: they are taken as they are.

    Returns:
        The directory of the table.

    Raises:
        ConfigError: settings that cannot go round.
        DataError: jobs failed; what the others found is written and printed.
    """
    settings.check()
    if rounds < 1:
        raise ConfigError(f"rounds: got {rounds}; give at least 1")
    settings.table(rounds).check()
    whole = make_plan(settings.table(rounds), Path(cells))
    require_same_documents(settings, whole)
    out, output = console(), Path(settings.output)
    out.print(f"rule: {rule(settings)}", soft_wrap=True, highlight=False)
    if dry_run:
        print_plan(jobs_of(whole), jobs, out, slurm)
    if check is not None:
        check(jobs_of(whole))
    if dry_run:
        return output
    report = partial(out.print, soft_wrap=True, highlight=False)
    for done in range(1, rounds + 1):
        plan = make_plan(settings.table(done), Path(cells))
        run_jobs(jobs_of(plan), jobs, report, slurm=slurm)
        found = collect(settings.table(done), plan)
        better, why = judge(settings, found, done)
        out.print(f"round {done}: {why}", soft_wrap=True, highlight=False)
        summary = summarize(by_round(settings, plan, found, done, why))
        write_table(summary, output)  # after each round, since the next may take days
        write_record(output, jobs_of(plan))
        draw_rounds(
            _over_rounds(settings, found, done),
            settings.arms[settings.control].title,
            output / "rounds",
            measured=settings.rows[settings.judge].title,
            title=f"{settings.title}: RL-tuned models",
        )
        if not better:
            break
    print_table(summary, out)
    require_done(jobs_of(plan))
    return output


def by_round(settings: FlywheelSettings, plan: Plan, found: Contents, rounds: int, why: str) -> Contents:
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
        of_round = spent(settings, plan, round_)
        for name, row in ROWS.items():
            key = f"{round_}/{name}"
            rows[key] = replace(row, title=f"round {round_}: {row.title}")
            entries |= {(key, arm): of_round.get((name, arm), Entry(missing=alone)) for arm in settings.arms}
    titles = {name: arm.title for name, arm in settings.arms.items()}
    said = (f"The rule: {rule(settings)}.", f"After round {rounds} of the flywheel: {why}.", NOTE)
    notes = (*settings.notes, *said, *found.notes)
    return Contents(settings.title, rows, titles, settings.control, entries, notes=notes)


def _over_rounds(settings: FlywheelSettings, found: Contents, rounds: int) -> dict[str, dict[int, list[float]]]:
    """What judges, after the last stage, by arm's title and round, of each seed."""
    row, scale = row_name(settings.judge, settings.last_stage), settings.rows[settings.judge].scale
    series: dict[str, dict[int, list[float]]] = {}
    for name, arm in settings.arms.items():
        for round_ in range(rounds + 1):
            # All arms begin with the first reference.
            method = method_name(settings.first if round_ == 0 else name, round_)
            values = [scale * metric.value for metric in found.entries[row, method].metrics.values()]
            if values:
                series.setdefault(arm.title, {})[round_] = values
    return series
