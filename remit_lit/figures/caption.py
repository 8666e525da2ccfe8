"""What stands under a figure: the paper's findings, each with what ours says in one sentence, and what was not run."""

from collections.abc import Iterator, Mapping

from remit_lit.figures.draw import AXES
from remit_lit.figures.lines import Plot
from remit_lit.figures.settings import Claim, FigureSettings
from remit_lit.figures.verdict import Compared, compare
from remit_lit.tables.settings import TableSettings


def write_caption(figure: FigureSettings, table: TableSettings, plots: Mapping[str, Plot]) -> str:
    """In Markdown, beside ``figure.png``.

    Args:
        figure: what is shown.
        table: that it is laid over.
        plots: the numbers by panel.
    """
    shown = [f"**{figure.panels[name].title}**: {_measured(figure, name, table)}." for name in plots]
    described = " ".join([*shown, "Mean and 95 % interval over seeds."])
    parts = [f"# {table.title}", f"![{table.title}](figure.png)", described]
    said = [f"- {_sentence(figure, claim, table, plots)}" for claim in figure.claims]
    missing = [f"- {line}" for name, plot in plots.items() for line in _missing(figure, name, table, plot)]
    return "\n\n".join([*parts, *("\n".join(lines) for lines in (said, missing) if lines)]) + "\n"


def _measured(figure: FigureSettings, name: str, table: TableSettings) -> str:
    panel = figure.panels[name]
    measure = figure.measure_of(panel)
    if panel.over == "log_ratio":
        return f"density of the {AXES[panel.over]}, over held-out tokens; the ends hold what lies beyond"
    if panel.over != "stage":
        return f"{measure} over {AXES[panel.over]}"
    less = f", less that of {table.methods[table.baseline or ''].title} with the same seed" if panel.gain else ""
    return f"{table.rows[measure].title}{less}, after each stage"


def _sentence(figure: FigureSettings, claim: Claim, table: TableSettings, plots: Mapping[str, Plot]) -> str:
    name = figure.panel_of(claim)
    found = compare(
        plots[name],
        claim.higher,
        claim.lower,
        by=claim.by,
        at=figure.place_of(claim, table),
        baseline=table.baseline,
        higher_is_better=figure.panels[name].higher_is_better,
        ratio=claim.ratio,
        blocks={} if table.block is None else dict(zip(table.seeds, map(str, table.vary[table.block]), strict=True)),
    )
    word = found.word(ratio=claim.ratio, size=claim.size)
    return f"{claim.paper}; ours {word}: {_because(figure, claim, table, plots[name], found)}."


def _because(figure: FigureSettings, claim: Claim, table: TableSettings, plot: Plot, found: Compared) -> str:
    first, second = (table.methods[method].title for method in (claim.higher, claim.lower))
    of = _compared(figure, claim, table)
    if found.mean is None:
        absent = [table.methods[name].title for name in (claim.higher, claim.lower) if not plot.lines[name]]
        if absent:
            return f"{' and '.join(absent)} {'were' if len(absent) > 1 else 'was'} not run"
        return f"no seed of both {first} and {second} has {of}"
    if claim.ratio:
        said = f"{of}, {first} over {second} is {'at most ' if found.censored else ''}{found.mean:.2f}"
    else:
        said = f"{of}, {first} less {second} is {found.mean:+.3g}"
    if found.low is not None and found.high is not None:
        said += f" (95 % interval over {found.seeds} seeds {_ends(claim, found.low, found.high)}"
        return said + (f"; over {table.block} {_ends(claim, *found.over_blocks)})" if found.over_blocks else ")")
    if found.censored:
        return f"{said}, since {found.censored} of {found.seeds} seeds never reach it"
    return f"{said} in the one seed that was run"


def _ends(claim: Claim, low: float, high: float) -> str:
    return f"{low:.2f} to {high:.2f}" if claim.ratio else f"{low:+.3g} to {high:+.3g}"


def _compared(figure: FigureSettings, claim: Claim, table: TableSettings) -> str:
    panel = figure.panels[figure.panel_of(claim)]
    if claim.by == "spread":
        return "the standard deviation in nats"
    if claim.by == "reaching":
        return f"the {panel.over} until the last value of {table.methods[table.baseline or ''].title}"
    measure = figure.measure_of(panel)
    if panel.over == "stage":
        return f"{table.rows[measure].title} after {figure.place_of(claim, table)}"
    return f"{measure} on average over training" if claim.by == "mean" else f"the last {measure}"


def _missing(figure: FigureSettings, name: str, table: TableSettings, plot: Plot) -> Iterator[str]:
    """A line for each method and reason."""
    where = f"{figure.panels[name].title}, " if len(figure.panels) > 1 else ""
    for method, reasons in plot.missing.items():
        if method not in figure.series:
            continue
        for reason in dict.fromkeys(reasons.values()):
            seeds = ", ".join(str(seed) for seed, why in reasons.items() if why == reason)
            yield f"{where}{table.methods[method].title}, seed{'s' if ',' in seeds else ''} {seeds}: {reason}."
