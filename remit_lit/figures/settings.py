"""What a figure's YAML says beside the table that it is laid over."""

from dataclasses import dataclass, field, replace
from typing import Literal

from remit_lit.errors import ConfigError, not_among
from remit_lit.tables.settings import Method, RowSettings, Step, TableSettings

Over = Literal["tokens", "hours", "step", "stage", "log_ratio"]
By = Literal["last", "mean", "reaching", "spread"]
IN_TRAINING: tuple[Over, ...] = ("tokens", "hours")
MID_TRAINING, BEFORE = "mid-training", "before mid-training"


@dataclass
class Panel:
    """One plot.

    Attributes:
        title: what stands above it.
        over: the horizontal axis. tokens, hours, step: of training; stage: mid-training and each stage of
            post-training; log_ratio: log p of the reference less log p of the model, whose density over held-out tokens
            is shown.
        measure: the vertical axis. Over tokens and hours, a figure of InLoopEvaluation (null: the figure's measure);
            over steps, a column of metrics.csv, e.g. train/grad_norm; over stages, a row of the table (null: the
            figure's row).
        gain: over stages, less the baseline's of the same seed.
        scale: figures are shown times this, e.g. 100 for percent.
        log: a logarithmic vertical axis.
        higher_is_better: of the measure.
    """

    title: str
    over: Over
    measure: str | None = None
    gain: bool = False
    scale: float = 1.0
    log: bool = False
    higher_is_better: bool = True


@dataclass
class Claim:
    """A finding of the paper, and the two series by which ours agrees with it or not.

    Ours agrees where the first is above the second and the 95 % interval of their paired difference over seeds leaves
    out 0, disagrees where it is below likewise, and otherwise does not tell.

    Attributes:
        paper: the finding and where it stands; the beginning of a sentence that ours ends.
        higher: the method that is higher by it.
        lower: the method that is lower.
        panel: by name; null: the figure's first.
        by: last: the last point; mean: of all points; reaching: where it first is as good as the baseline's last point;
            spread: the standard deviation of a distribution.
        at: with last, the stage instead of the last one: before mid-training, mid-training or a stage of the table.
        ratio: compare by how many times one is the other, as of tokens and hours.
        size: how large it is in the paper, in the unit compared; where ours agrees and its interval leaves this out,
            the caption says that ours is smaller or larger. null: the sign alone is compared.
    """

    paper: str
    higher: str
    lower: str
    panel: str | None = None
    by: By = "last"
    at: str | None = None
    ratio: bool = False
    size: float | None = None


@dataclass
class FigureSettings:
    """Which runs of the table are shown, and how.

    Attributes:
        panels: the plots beside each other, by name.
        series: the table's methods that are shown; their order and colours are the table's.
        claims: what the paper found in this figure.
        measure: the figure of InLoopEvaluation that panels over tokens and hours show.
        row: the row of the table that panels over stages show.
        stages: of the table's, those of post-training that the models go through; null: all.
        rows: rows beside the table's.
        methods: methods beside the table's.
        before: steps beside the table's.
        overlay: YAML files laid over every method's ``fit``, e.g. one that measures a learning curve.
    """

    panels: dict[str, Panel]
    series: list[str]
    claims: list[Claim] = field(default_factory=list)
    measure: str | None = None
    row: str | None = None
    stages: list[str] | None = None
    rows: dict[str, RowSettings] = field(default_factory=dict)
    methods: dict[str, Method] = field(default_factory=dict)
    before: dict[str, Step] = field(default_factory=dict)
    overlay: list[str] = field(default_factory=list)

    def laid_over(self, table: TableSettings) -> TableSettings:
        """The table with what this figure has beside it; its claims take the place of the table's comparison.

        Raises:
            ConfigError: a stage that the table does not have.
        """
        unknown = [name for name in self.stages or [] if name not in table.stages]
        if unknown:
            raise ConfigError(f"figure.stages: got {unknown[0]!r}; give some of {', '.join(table.stages)}")
        methods = {
            name: replace(method, configs=[*method.configs, *self.overlay])
            for name, method in (*table.methods.items(), *self.methods.items())
        }
        return replace(
            table,
            methods=methods,
            rows={**table.rows, **self.rows},
            before={**table.before, **self.before},
            stages={name: step for name, step in table.stages.items() if self.stages is None or name in self.stages},
            primary=None,
        )

    def measure_of(self, panel: Panel) -> str:
        """What a panel shows; empty where nothing says it."""
        default = self.measure if panel.over in IN_TRAINING else self.row if panel.over == "stage" else None
        return panel.measure or default or ""

    def panel_of(self, claim: Claim) -> str:
        """The name of the panel that a claim is about."""
        return next(iter(self.panels)) if claim.panel is None else claim.panel

    def place_of(self, claim: Claim, table: TableSettings) -> str | None:
        """The stage at which a claim compares; None for another panel, whose lines have a last point."""
        panel = self.panels[self.panel_of(claim)]
        if panel.over != "stage" or claim.at is not None:
            return claim.at
        return [MID_TRAINING, *(table.stages if self.row_of(panel, table).of_model else ())][-1]

    def row_of(self, panel: Panel, table: TableSettings) -> RowSettings:
        """The table's row that a panel over stages shows."""
        return table.rows[self.measure_of(panel)]

    def check(self, table: TableSettings) -> None:
        """Refuse what cannot be drawn, before anything is run.

        Args:
            table: with this figure's methods (:meth:`laid_over`).

        Raises:
            ConfigError: naming the field, what it got and what would be right.
        """
        if not self.panels or not self.series:
            raise ConfigError("figure.panels, figure.series: each needs at least one entry")
        unknown = [name for name in self.series if name not in table.methods]
        if unknown:
            raise ConfigError(f"figure.series: got {unknown[0]!r}; give some of {', '.join(table.methods)}")
        for name, panel in self.panels.items():
            self._check_panel(f"figure.panels.{name}", panel, table)
        for number, claim in enumerate(self.claims):
            self._check_claim(f"figure.claims.{number}", claim, table)

    def _check_panel(self, place: str, panel: Panel, table: TableSettings) -> None:
        measure = self.measure_of(panel)
        if panel.over == "stage":
            rows = [name for name, row in table.rows.items() if row.curve is None]
            if measure not in rows:
                raise ConfigError(f"{place}.measure: got {measure!r}; over stages give a row: {', '.join(rows)}")
        elif panel.over == "log_ratio":
            if table.agreement is None:
                raise ConfigError(f"agreement: missing, and {place}.over is log_ratio; give its fields")
        elif not measure:
            raise ConfigError(f"{place}.measure: missing; over {panel.over} give what was measured in training")
        if panel.gain and (panel.over != "stage" or table.baseline is None):
            raise ConfigError(f"{place}.gain: got true; it needs stages and a baseline")

    def _check_claim(self, place: str, claim: Claim, table: TableSettings) -> None:
        for field_ in ("higher", "lower"):
            if getattr(claim, field_) not in self.series:
                got = getattr(claim, field_)
                raise ConfigError(f"{place}.{field_}: {not_among(got, self.series)} (figure.series)")
        if self.panel_of(claim) not in self.panels:
            raise ConfigError(f"{place}.panel: {not_among(claim.panel, self.panels)}")
        panel = self.panels[self.panel_of(claim)]
        if claim.by == "reaching" and (panel.over not in IN_TRAINING or table.baseline is None):
            raise ConfigError(f"{place}.by: got reaching; it needs a panel over tokens or hours, and a baseline")
        if (claim.by == "spread") != (panel.over == "log_ratio"):
            raise ConfigError(f"{place}.by: got {claim.by}; a distribution is compared by spread, and nothing else is")
        stages = stage_names(panel, table)
        if claim.at is not None and claim.at not in stages:
            raise ConfigError(f"{place}.at: got {claim.at!r}; give one of {', '.join(stages) or 'null'}")


def stage_names(panel: Panel, table: TableSettings) -> list[str]:
    """The places of a panel over stages, in order; none of another panel."""
    return [BEFORE, MID_TRAINING, *table.stages] if panel.over == "stage" else []
