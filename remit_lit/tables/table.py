"""``table``: runs what is missing of a table, and shows all results."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from remit_lit.evaluation.agreement import KL, TOP1
from remit_lit.evaluation.results import Evaluation
from remit_lit.files import make_directory, write_whole
from remit_lit.jobs.cluster import SlurmSettings
from remit_lit.jobs.report import print_plan, require_done, write_record
from remit_lit.jobs.scheduler import Check, run_jobs
from remit_lit.runs.wording import title_of
from remit_lit.tables.collect import collect
from remit_lit.tables.courses import Distance, draw_dynamics, draw_learning_curves
from remit_lit.tables.drawing import Style, styles
from remit_lit.tables.figures import draw_differences, draw_rows
from remit_lit.tables.latex import to_latex
from remit_lit.tables.markdown import to_markdown
from remit_lit.tables.page import write_page
from remit_lit.tables.plan import TRAINED, Plan, jobs_of, make_plan
from remit_lit.tables.reaching import learning_curves
from remit_lit.tables.registration import notes_on, register
from remit_lit.tables.settings import AGREEMENT, TableSettings
from remit_lit.tables.summary import Summary, summarize
from remit_lit.tables.terminal import print_table
from remit_lit.tables.tidy import cells_csv, seeds_csv
from remit_lit.terminal import console


def make_table(
    settings: TableSettings,
    cells: str,
    jobs: int | None,
    *,
    run: bool,
    dry_run: bool,
    slurm: SlurmSettings | None = None,
    check: Check | None = None,
) -> Path:
    """Run the missing jobs of a table, print it, and write it as Markdown, CSV, LaTeX, figures and a page.

    Args:
        settings: the table.
        cells: directory of the jobs, shared by all tables.
        jobs: jobs at a time; None: one on this machine, all that are ready on a cluster.
        run: False shows what is there and runs nothing.
        dry_run: print the plan with what each job may take, and run nothing.
        slurm: what to ask a cluster for that runs the jobs; None: this machine runs them.
        check: reads the command lines of the jobs before the first of them runs; None: they are taken as they are.

    Returns:
        The table's directory.

    Raises:
        ConfigError: settings that cannot be a table.
        DataError: jobs failed; the table of the others is written and printed.
    """
    settings.check()
    plan, output = make_plan(settings, Path(cells)), Path(settings.output)
    wanted = jobs_of(plan)
    out = console()
    if dry_run:
        print_plan(wanted, jobs, out, slurm)
    if run and check is not None:
        check(wanted)
    if dry_run:
        return output
    registration = register(settings, plan, output)
    if run:
        report = partial(out.print, soft_wrap=True, highlight=False)
        run_jobs(wanted, jobs, report, share_process=settings.share_process, slurm=slurm)
    contents = collect(settings, plan)
    contents = replace(contents, notes=(*contents.notes, *notes_on(registration, settings)))
    summary = summarize(contents)
    write_table(summary, output)
    write_page(summary, settings, plan, output)
    write_record(output, wanted, registration=registration)
    if any(cell.mean is not None for cell in summary.cells.values()):
        draw_rows(summary, output / "rows")
        draw_differences(summary, output / "differences")
    _draw_curves(settings, plan, output)
    if settings.agreement is not None:
        _draw_dynamics(settings, plan, output)
    print_table(summary, out)
    if run:
        require_done(wanted)
    return output


def _draw_curves(settings: TableSettings, plan: Plan, output: Path) -> None:
    drawn: set[str] = set()
    for name, row in settings.rows.items():
        if row.curve is None or row.curve in drawn:
            continue
        drawn.add(row.curve)
        curves = learning_curves(plan, row.curve)
        if not curves:
            continue
        titles = {settings.methods[method].title: of_seeds for method, of_seeds in curves.items()}
        baseline = settings.methods[settings.baseline].title if settings.baseline in curves else None
        draw_learning_curves(
            titles,
            baseline,
            output / f"curve-{name}",
            palette=_palette(settings),
            measured=title_of(row.curve),
            higher_is_better=row.higher_is_better,
            reaches=row.reaches,
            title=settings.title,
        )


def _palette(settings: TableSettings) -> dict[str, Style]:
    """The style of each method's title, in all figures."""
    titles = {name: method.title for name, method in settings.methods.items()}
    return styles(titles.values(), titles.get(settings.baseline or ""))


def _draw_dynamics(settings: TableSettings, plan: Plan, output: Path) -> None:
    """From models that nothing is done to, over mid-training, to the end of post-training."""
    before, arms = dict[str, list[Distance]](), dict[str, dict[str, list[Distance]]]()
    for name, method in settings.methods.items():
        stages = plan[name, settings.seeds[0]].stages
        if method.unavailable is not None:
            continue
        if not method.is_trained and not stages:
            before[method.title] = _distances(settings, plan, name, TRAINED)
        else:
            first = "mid-training" if method.is_trained else method.title
            arms[method.title] = {
                stage or first: _distances(settings, plan, name, stage) for stage in (TRAINED, *stages)
            }
    arms = {title: {**before, **of_arm} for title, of_arm in arms.items()}
    draw_dynamics(arms, output / "dynamics", palette=_palette(settings), to="the reference", title=settings.title)


def _distances(settings: TableSettings, plan: Plan, method: str, stage: str) -> list[Distance]:
    jobs = [plan[method, seed].evaluations.get((stage, AGREEMENT)) for seed in settings.seeds]
    done = [Evaluation.read(job.output).tasks[AGREEMENT] for job in jobs if job and job.state == "done"]
    return [Distance(task.metrics[KL].value, task.metrics[TOP1].value) for task in done]


def write_table(summary: Summary, directory: Path) -> list[Path]:
    """Write ``table.md``, ``table.tex``, ``cells.csv`` and ``seeds.csv``; the terminal's is
    :func:`remit_lit.tables.terminal.print_table`, figures are :mod:`remit_lit.tables.figures`.

    Returns:
        The files.
    """
    texts = {
        "table.md": to_markdown(summary),
        "table.tex": to_latex(summary),
        "cells.csv": cells_csv(summary),
        "seeds.csv": seeds_csv(summary),
    }
    make_directory(directory)
    paths = []
    for name, text in texts.items():
        path = directory / name
        write_whole(path, text)
        paths.append(path)
    return paths
