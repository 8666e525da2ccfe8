"""What a table holds before anything is said about its statistics."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from remit_lit.evaluation.results import Metric


@dataclass(frozen=True)
class Row:
    """One figure of every method.

    Attributes:
        title: for people, e.g. ``GSM8K, accuracy``.
        scale: figures are shown times this, e.g. 100 for percent.
        decimals: of the shown figures.
        compared: False for what was set and not found, such as tokens trained on: no difference is shown.
    """

    title: str
    scale: float = 1.0
    decimals: int = 2
    compared: bool = True


@dataclass(frozen=True)
class Entry:
    """What one method found in one row.

    Attributes:
        found: by seed.
        missing: by seed, why there is nothing, e.g. ``failed: ...`` or ``not run: ...``.
        fixed: one model stands under all seeds, so that its figures spread over none.
    """

    found: Mapping[int, Metric] = field(default_factory=dict)
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
        published: figures of others by (row, column), in the units shown; never mixed with ours.
        published_source: where those are from.
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
