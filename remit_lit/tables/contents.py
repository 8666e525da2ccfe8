"""What a table is made of before its statistics: rows, columns, and the metrics of each seed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from remit_lit.evaluation.results import Metric


class Missing(Exception):  # noqa: N818
    """Why a figure is missing."""


@dataclass(frozen=True)
class Row:
    """One measure, of which every method has a figure.

    Attributes:
        title: for people, e.g. ``GSM8K, accuracy``.
        scale: figures are shown times this, e.g. 100 for percent.
        decimals: of the shown figures.
        compared: False for what was set and not measured, such as tokens trained on: no difference is shown.
    """

    title: str
    scale: float = 1.0
    decimals: int = 2
    compared: bool = True


@dataclass(frozen=True)
class Entry:
    """The metrics of one method in one row.

    Attributes:
        metrics: by seed.
        missing: by seed, why there is none, e.g. ``failed: ...`` or ``not run: ...``.
        fixed: all seeds share one model, so its figures do not vary over seeds.
    """

    metrics: Mapping[int, Metric] = field(default_factory=dict)
    missing: Mapping[int, str] = field(default_factory=dict)
    fixed: bool = False


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
    """

    title: str
    rows: Mapping[str, Row]
    columns: Mapping[str, str]
    baseline: str | None
    entries: Mapping[tuple[str, str], Entry]
    published: Mapping[tuple[str, str], float] = field(default_factory=dict)
    published_source: str = ""
    notes: tuple[str, ...] = ()
