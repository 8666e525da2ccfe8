"""What the rows of a split are made of, whichever way it was chosen."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from remit_lit.data.row_files import RowWriter


@dataclass
class Counts:
    """Documents that were taken, their tokens and bytes."""

    documents: int = 0
    tokens: int = 0
    bytes: int = 0

    def add(self, lengths: np.ndarray, sizes: np.ndarray) -> None:
        """Count documents of ``lengths`` tokens and ``sizes`` bytes; one without tokens is none."""
        kept = lengths > 0
        self.documents += int(np.count_nonzero(kept))
        self.tokens += int(lengths.sum())
        self.bytes += int(sizes[kept].sum())


@dataclass(frozen=True)
class Taken:
    """The documents of a split.

    Attributes:
        names: of the sources.
        stages: writes the documents of each stage, in their order.
        counts: of each stage, by source.
        skipped: records of each source that were skipped.
        contaminated: documents of each source that share words with evaluation items.
    """

    names: list[str]
    stages: Sequence[Callable[[RowWriter], None]]
    counts: list[list[Counts]]
    skipped: list[int] = field(default_factory=list)
    contaminated: list[int] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Of all documents."""
        return sum(counts.tokens for stage in self.counts for counts in stage)

    def facts(self) -> dict[str, dict[str, int]]:
        """What the manifest says of each source."""
        facts = {}
        for name, skipped, *of_stages in zip(self.names, self.skipped, *self.counts, strict=True):
            total = {key: sum(getattr(counts, key) for counts in of_stages) for key in asdict(Counts())}
            facts[name] = total | {"skipped": skipped}
        return facts

    def stage_facts(self, ends: list[int]) -> list[dict[str, Any]]:
        """What the manifest says of each stage, given the number of rows up to its end."""
        return [
            {
                "rows": end - begin,
                "sources": {name: asdict(found) for name, found in zip(self.names, counts, strict=True)},
            }
            for begin, end, counts in zip([0, *ends[:-1]], ends, self.counts, strict=True)
        ]
