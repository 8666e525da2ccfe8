"""The lab's corpus as sources of ``prepare``: one kind of document each, generated on the fly."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import get_args

from remit_lit.data.sources import Source
from remit_lit.errors import ConfigError, not_among, require_at_least
from remit_lit.lab.documents import Kind, lab_documents
from remit_lit.lab.task import Split, check_split

DOCUMENTS_PER_SHARD = 1024  # fixed, so that the documents do not depend on how many workers share the shards


@dataclass
class LabDocuments(Source):
    """``documents`` generated documents of one kind, the same for the same arguments.

    Attributes:
        kind: ``web`` (a Markov language), ``noise`` (uniform characters), ``correct`` (problems with right traces)
            or ``wrong`` (problems whose traces misread half of their operators as the first).
        documents: number of documents, of 33 tokens each.
        seed: decides which documents are generated.
        split: ``train``, ``dev`` or ``test``; they share no document, whatever the seeds.

    Raises:
        ConfigError: ``kind`` or ``split`` is unknown, or ``documents`` is below 1.
    """

    kind: Kind
    documents: int
    seed: int = 0
    split: Split = "train"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(f"kind: {not_among(self.kind, get_args(Kind))}")
        require_at_least("documents", self.documents, 1)
        check_split(self.split)

    def shards(self) -> list[str]:
        return [str(index) for index in range(-(-self.documents // DOCUMENTS_PER_SHARD))]

    def read(self, shard: str) -> Iterator[str | None]:
        start = int(shard) * DOCUMENTS_PER_SHARD
        rng = random.Random(f"{self.kind}/{self.split}/{self.seed}/{shard}")
        count = min(DOCUMENTS_PER_SHARD, self.documents - start)
        yield from islice(lab_documents(self.kind, self.split, rng), count)
