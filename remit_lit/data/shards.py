"""Shards of sources in a seeded order, read until every share is filled and no further."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from remit_lit.data.progress_bar import BRIEF, progress
from remit_lit.data.row_files import RowWriter
from remit_lit.data.segments import Segment, gathered, starts_of
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.splits import Counts, Taken
from remit_lit.data.tokenizing import Parts, Shard, Tokenizing, require_text
from remit_lit.data.tokenizing_workers import StartWorkers, Workers

# Documents are shuffled in memory, one part of all segments at a time, of about so many tokens. There are at least so
# many parts, since one of them is on the disk twice while its rows are written.
_PART_TOKENS, _LEAST_PARTS = 32 * 2**20, 32
_PARTS_OF_ALL = 256  # where nobody knows how many tokens there are


@dataclass
class Drawn:
    """What was taken of one source.

    Attributes:
        name: of the source.
        segments: of each stage.
        training: counts of each stage.
        held_out: counts of the documents that were held out.
        skipped: records that were skipped.
        contaminated: documents that share words with evaluation items.
    """

    name: str
    segments: list[list[Segment]]
    training: list[Counts]
    held_out: Counts = field(default_factory=Counts)
    skipped: int = 0
    contaminated: int = 0


def _parts_of(settings: PrepareSettings) -> Parts:
    """How documents are dealt out, so that a part fits in memory."""
    tokens = [stage.num_tokens for stage in settings.all_stages]
    known = sum(count for count in tokens if count is not None)
    training = _PARTS_OF_ALL if None in tokens else max(_LEAST_PARTS, math.ceil(known / _PART_TOKENS))
    share = settings.validation_share if settings.validation is None else 0.0
    return Parts(training, math.ceil(training * share / (1 - share)), share, settings.seed)


def take_shards(job: Tokenizing, settings: PrepareSettings, start: StartWorkers) -> tuple[Taken, Taken]:
    """Training and held-out documents, every source being read until its share of each stage is filled.

    Raises:
        ConfigError: a source ends before its share; names it.
        DataError: a malformed record, or a source without text or with contaminated documents only; names the source.
    """
    job = replace(job, parts=_parts_of(settings))
    tokens = [stage.num_tokens for stage in settings.all_stages]
    total = None if None in tokens else sum(count for count in tokens if count is not None)
    with start(job) as workers, progress(f"tokenizing {job.field}", total, "token", delay=BRIEF) as bar:
        drawn = [_Draw(job, settings, index, bar.update).run(workers) for index in range(len(job.names))]
    stages = [
        [(source, segment) for source, each in enumerate(drawn) for segment in each.segments[number]]
        for number in range(len(settings.all_stages))
    ]
    writers = [
        partial(_write_parts, segments, job.parts.training, [settings.seed, number])
        for number, segments in enumerate(stages)
    ]
    segments = [each for stage in stages for each in stage]
    held_out = partial(_write_parts, segments, job.parts.held_out, [settings.seed, len(stages)])
    skipped, contaminated = [each.skipped for each in drawn], [each.contaminated for each in drawn]
    counts = [[each.training[number] for each in drawn] for number in range(len(stages))]
    return (
        Taken(job.names, writers, counts, skipped, contaminated),
        Taken(job.names, [held_out], [[each.held_out for each in drawn]], skipped),
    )


class _Draw:
    """Reads one source: stage after stage, and pass after pass where its documents may be repeated."""

    def __init__(self, job: Tokenizing, settings: PrepareSettings, index: int, taken: Callable[[int], object]) -> None:
        self._job, self._settings, self._index, self._name = job, settings, index, job.names[index]
        self._tell = taken  # how many tokens were
        self._repeat = settings.repeats(self._name)
        # Tokens that each stage still needs; infinitely many where it takes all that there are.
        self._missing = [
            math.inf if stage.num_tokens is None else int(stage.num_tokens * share)
            for stage, share in zip(settings.all_stages, self._shares(), strict=True)
        ]
        self._stage, self._once, self._taken, self._shards = 0, 0, 0, 0
        self._is_over = False
        self._drawn = Drawn(self._name, [[] for _ in self._missing], [Counts() for _ in self._missing])

    def _shares(self) -> list[float]:
        return [1.0 if stage.mix is None else stage.mix.get(self._name, 0.0) for stage in self._settings.all_stages]

    def run(self, workers: Workers) -> Drawn:
        """Read as much as is needed."""
        order = self._order()

        def next_shard(in_flight: int) -> Shard | None:
            missing, mean = sum(self._missing), self._taken / max(1, self._shards)
            if self._is_over or missing == 0 or (in_flight and in_flight * mean >= missing):
                return None  # those that are being read will probably do
            number_of_pass, index = next(order, (0, None))
            at_most = None if math.isinf(missing) else int(missing)
            return None if index is None else Shard(self._index, index, number_of_pass, at_most)

        for shard, segments in workers.in_order(next_shard):
            for segment in segments:
                self._take(segment, shard.number_of_pass)
            self._shards += 1
            if self._is_over or not any(self._missing):
                break
        drawn = self._drawn
        require_text(self._name, sum(counts.documents for counts in drawn.training), drawn.contaminated)
        self._require_filled()
        return drawn

    def _order(self) -> Iterator[tuple[int, int]]:
        """Number of the pass and of the shard, of all that may be read."""
        for number_of_pass in range(math.ceil(self._repeat)):
            numbers = np.random.default_rng([self._settings.seed, self._index, number_of_pass])
            for index in numbers.permutation(len(self._job.shards[self._index])):
                yield number_of_pass, int(index)

    def _take(self, segment: Segment, number_of_pass: int) -> None:
        """Take what the stages need of a segment, and remove the others."""
        ends = self._ends(segment)
        if number_of_pass == 0:
            self._once += int(ends[-1]) if len(ends) else 0
        elif self._repeat < number_of_pass + 1:  # the last pass, over a part of the documents
            room = int(self._repeat * self._once) - self._taken
            self._is_over = room <= (ends[-1] if len(ends) else 0)
            number = int(np.searchsorted(ends, room)) + 1 if room > 0 else 0
            segment, rest = segment.split(number)
            rest.remove()
            ends = self._ends(segment)
        while self._stage < len(self._missing):
            missing = self._missing[self._stage]
            if len(ends) == 0 or ends[-1] < missing:
                self._add(segment, int(ends[-1]) if len(ends) else 0)
                return
            if missing:
                head, segment = segment.split(int(np.searchsorted(ends, missing)) + 1)
                self._add(head, int(self._ends(head)[-1]))
                ends = self._ends(segment)
            self._missing[self._stage] = 0
            self._stage += 1
        segment.remove()

    def _ends(self, segment: Segment) -> np.ndarray:
        """Training tokens up to each record, int64 [records]."""
        records = segment.records
        return np.cumsum(np.where(records.parts >= self._job.parts.held_out, records.lengths, 0), dtype=np.int64)

    def _add(self, segment: Segment, tokens: int) -> None:
        drawn, records = self._drawn, segment.records
        drawn.segments[self._stage].append(segment)
        is_training = records.parts >= self._job.parts.held_out
        drawn.training[self._stage].add(records.lengths[is_training], records.bytes[is_training])
        drawn.held_out.add(records.lengths[~is_training], records.bytes[~is_training])
        drawn.skipped += int(np.count_nonzero((records.lengths == 0) & (records.bytes == 0)))
        drawn.contaminated += int(np.count_nonzero((records.lengths == 0) & (records.bytes > 0)))
        segment.forget_records()
        self._taken += tokens
        self._tell(tokens)
        self._missing[self._stage] -= tokens

    def _require_filled(self) -> None:
        wanted = 0
        for number, (stage, share) in enumerate(zip(self._settings.all_stages, self._shares(), strict=True)):
            if stage.num_tokens is None:
                return
            wanted += int(stage.num_tokens * share)
            if self._missing[number]:
                raise self._settings.too_few_tokens(number, stage.num_tokens, share, self._name, wanted, self._once)


def _write_parts(segments: list[tuple[int, Segment]], number: int, seed: list[int], writer: RowWriter) -> None:
    """Write the documents of the last ``number`` parts of segments, part after part, each shuffled.

    Args:
        segments: index of the source, and segment.
        number: of parts.
        seed: of the order.
        writer: of the rows.
    """
    for part in range(number):
        popped = [(source, *segment.pop()) for source, segment in segments]
        tokens, lengths = (
            np.concatenate([np.zeros(0, np.int32), *(found[column] for found in popped)]) for column in (1, 2)
        )
        sources = np.repeat(
            np.array([source for source, _, _ in popped], np.int16), [len(found) for _, _, found in popped]
        )
        order = np.random.default_rng([*seed, part]).permutation(len(lengths))
        writer.add(gathered(tokens, starts_of(lengths)[order], lengths[order]), lengths[order], sources[order])
