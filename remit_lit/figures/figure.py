"""``figure``: runs what is missing of a figure, draws it, and says whether ours agrees with the paper."""

import csv
import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from remit_lit.figures.caption import write_caption
from remit_lit.figures.draw import draw_figure
from remit_lit.figures.lines import Plot, jobs_of, read_plot
from remit_lit.figures.settings import FigureSettings
from remit_lit.jobs.cluster import SlurmSettings
from remit_lit.jobs.report import print_plan, require_done, write_record
from remit_lit.jobs.scheduler import Check, run_jobs
from remit_lit.tables.plan import make_plan
from remit_lit.tables.settings import TableSettings
from remit_lit.terminal import console

COLUMNS = ("figure", "series", "seed", "x", "y", "missing")


def make_figure(
    table: TableSettings,
    figure: FigureSettings,
    cells: str,
    jobs: int | None,
    *,
    run: bool,
    dry_run: bool,
    slurm: SlurmSettings | None = None,
    check: Check | None = None,
) -> Path:
    """Run the missing jobs of a figure and write ``figure.png``, ``figure.svg``, ``data.csv`` and ``caption.md``.

    Args:
        table: the table that it is laid over; its output is the figure's directory.
        figure: what is shown of it.
        cells: directory of the jobs, shared with all tables.
        jobs: jobs at a time; None: one on this machine, all that are ready on a cluster.
        run: False shows what is there and runs nothing.
        dry_run: print the plan with what each job may take, and run nothing.
        slurm: what to ask a cluster for that runs the jobs; None: this machine runs them.
        check: reads the command lines of the jobs before the first of them runs; None: they are taken as they are.

    Returns:
        The figure's directory.

    Raises:
        ConfigError: settings that cannot be a figure.
        DataError: jobs failed; the figure of the others is written.
    """
    table = figure.laid_over(table)
    table.check()
    figure.check(table)
    plan, output = make_plan(table, Path(cells)), Path(table.output)
    wanted = jobs_of(figure, table, plan)
    out = console()
    if dry_run:
        print_plan(wanted, jobs, out, slurm)
    if run and check is not None:
        check(wanted)
    if dry_run:
        return output
    if run:
        report = partial(out.print, soft_wrap=True, highlight=False)
        run_jobs(wanted, jobs, report, share_process=table.share_process, slurm=slurm)
    plots = {name: read_plot(figure, panel, table, plan) for name, panel in figure.panels.items()}
    output.mkdir(parents=True, exist_ok=True)
    caption = write_caption(figure, table, plots)
    (output / "caption.md").write_text(caption, encoding="utf-8")
    (output / "data.csv").write_text(_tidy(figure, table, plots), encoding="utf-8")
    write_record(output, wanted)
    draw_figure(figure, table, plots, output / "figure")
    out.print(caption, soft_wrap=True, markup=False, highlight=False)
    if run:
        require_done(wanted)
    return output


def _tidy(figure: FigureSettings, table: TableSettings, plots: Mapping[str, Plot]) -> str:
    """A line for each point, in the units shown, and one with the reason where a seed has no points or not all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, plot in plots.items():
        for method in (method for method in plot.lines if method in figure.series):
            for seed in table.seeds:
                of_seed = (name, table.methods[method].title, seed)
                line = plot.lines[method].get(seed)
                writer.writerows((*of_seed, x, y, "") for x, y in (line.points if line else ()))
                if seed in plot.missing[method]:
                    writer.writerow((*of_seed, "", "", plot.missing[method][seed]))
    return text.getvalue()
