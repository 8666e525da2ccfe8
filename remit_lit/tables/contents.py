"""What a table is made of before its statistics: rows, columns, and the metrics of each seed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from remit_lit.evaluation.results import Metric
from remit_lit.tables.settings import Primary


class Missing(Exception):  # noqa: N818
    """Why a figure is missing."""


@dataclass(frozen=True)
class Row:
    """One measure, of which every method has a figure.

    Attributes:
        title: for people, e.g. ``GSM8K, accuracy``.
        scale: figures are shown times this, e.g. 100 for percent.
        decimals: of the shown figures.
        compared: False for what was set and not measured, such as tokens trained on, and for what is a comparison
            already, such as a speed-up: no difference is shown.
        log: means are geometric and intervals those of logarithms, as of speed-ups.
    """

    title: str
    scale: float = 1.0
    decimals: int = 2
    compared: bool = True
    log: bool = False


@dataclass(frozen=True)
class Entry:
    """The metrics of one method in one row.

    Attributes:
        metrics: by seed.
        missing: by seed, why there is none, e.g. ``failed: ...`` or ``not run: ...``.
        fixed: all seeds share one model, so its figures do not vary over seeds.
        censored: by seed, why its metric is only a bound, e.g. ``never reaches 0.7``.
        bound: on which side the true figure of a censored seed lies.
    """

    metrics: Mapping[int, Metric] = field(default_factory=dict)
    missing: Mapping[int, str] = field(default_factory=dict)
    fixed: bool = False
    censored: Mapping[int, str] = field(default_factory=dict)
    bound: Literal["at least", "at most"] = "at least"


@dataclass(frozen=True)
class Contents:
    """A table's figures.

    Attributes:
        title: of the table.
        rows: by name, in order.
        columns: titles of the methods by name, in order.
        baseline: the column that the others are compared with; None compares nothing.
        entries: by (row, column).
        published: figures from the literature by (row, column), in the units shown; never mixed with ours.
        published_source: where they are from.
        notes: lines that stand under the table.
        primary: the comparison that was registered; None: all are secondary.
        varied: what each seed stands for, by name, e.g. its base and its order.
        block: the name among these whose equal values make seeds a block; None: seeds are not in blocks.
    """

    title: str
    rows: Mapping[str, Row]
    columns: Mapping[str, str]
    baseline: str | None
    entries: Mapping[tuple[str, str], Entry]
    published: Mapping[tuple[str, str], float] = field(default_factory=dict)
    published_source: str = ""
    notes: tuple[str, ...] = ()
    primary: Primary | None = None
    varied: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    block: str | None = None

    @property
    def blocks(self) -> Mapping[int, str]:
        """The block of each seed; empty where seeds are in none."""
        return {} if self.block is None else {seed: values[self.block] for seed, values in self.varied.items()}
