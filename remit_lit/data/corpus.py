"""Tokenised documents of several sources on disk, and which of them are held out or chosen by the mix."""

from functools import partial

import numpy as np

from remit_lit.data.mixing import Stage
from remit_lit.data.packing import choose_documents
from remit_lit.data.progress_bar import BRIEF, progress
from remit_lit.data.row_files import RowWriter
from remit_lit.data.segments import Segment
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.splits import Counts, Taken
from remit_lit.data.tokenizing import Shard, Tokenizing, require_text
from remit_lit.data.tokenizing_workers import StartWorkers

_TOKENS_AT_ONCE = 16 * 2**20  # that are gathered before they are written


class Corpus:
    """All documents of several sources, numbered through.

    Attributes:
        names: of the sources.
        lengths: tokens of each document, 0 for one that is left out, int64 [documents].
        bytes: UTF-8 bytes of each document, int64 [documents].
        source: index of each document's source, int16 [documents].
        skipped: number of skipped records of each source.
        contaminated: number of documents of each source that share words with evaluation items.

    Raises:
        DataError: a source without text, or with contaminated documents only; names it.
    """

    def __init__(self, names: list[str], segments: list[list[Segment]]) -> None:
        """``segments`` are those of each source, with all documents in one part."""
        self.names = names
        each = [segment for of_source in segments for segment in of_source]
        self._tokens = [segment.open() for segment in each]
        self._first = np.cumsum([0, *(len(segment.records) for segment in each)])
        self.lengths = np.concatenate([segment.records.lengths for segment in each]).astype(np.int64)
        self.bytes = np.concatenate([segment.records.bytes for segment in each])
        sizes = [sum(len(segment.records) for segment in of_source) for of_source in segments]
        self.source = np.repeat(np.arange(len(names), dtype=np.int16), sizes)
        # A skipped record has no bytes, either.
        self.skipped = self._count((self.lengths == 0) & (self.bytes == 0))
        self.contaminated = self._count((self.lengths == 0) & (self.bytes > 0))
        begins = np.cumsum(self.lengths) - self.lengths
        firsts = np.append(begins, self.lengths.sum())[self._first[:-1]]
        self._begins = begins - np.repeat(firsts, np.diff(self._first))
        for name, kept, contaminated in zip(names, self._count(self.lengths > 0), self.contaminated, strict=True):
            require_text(name, kept, contaminated)

    def _count(self, documents: np.ndarray) -> list[int]:
        return np.bincount(self.source[documents], minlength=len(self.names)).tolist()

    def tokens(self, documents: np.ndarray) -> np.ndarray:
        """The tokens of documents, one document after the other, int32 [tokens]."""
        segments = np.searchsorted(self._first, documents, side="right") - 1
        begins, lengths = self._begins[documents], self.lengths[documents]
        pieces = [
            self._tokens[segment][begin : begin + length]
            for segment, begin, length in zip(segments.tolist(), begins.tolist(), lengths.tolist(), strict=True)
        ]
        return np.concatenate(pieces)

    def shuffled(self, index: int, seed: int) -> np.ndarray:
        """Documents of source ``index`` in their seeded order, int64."""
        documents = np.flatnonzero((self.source == index) & (self.lengths > 0))
        return np.random.default_rng([seed, index]).permutation(documents)


def take_documents(job: Tokenizing, settings: PrepareSettings, start: StartWorkers) -> tuple[Taken, Taken]:
    """Training and held-out documents, every source being tokenised whole before the mix chooses.

    Raises:
        ConfigError: a source holds fewer tokens than its share; names it.
        DataError: a malformed record, or a source without text or with contaminated documents only; names the source.
    """
    corpus = _read(job, start)
    orders = [corpus.shuffled(index, settings.seed) for index in range(len(corpus.names))]
    share = settings.validation_share if settings.validation is None else 0.0
    counts = [int(len(order) * share + 0.5) for order in orders]
    training = [order[count:] for order, count in zip(orders, counts, strict=True)]
    held_out = [order[:count] for order, count in zip(orders, counts, strict=True)]
    return (
        _taken(corpus, _mix(corpus, training, settings), settings.seed),
        _taken(corpus, [held_out], settings.seed),
    )


def take_all(job: Tokenizing, settings: PrepareSettings, start: StartWorkers) -> Taken:
    """Every document. Raises DataError as :func:`take_documents` does."""
    corpus = _read(job, start)
    return _taken(
        corpus, [[corpus.shuffled(index, settings.seed) for index in range(len(corpus.names))]], settings.seed
    )


def _read(job: Tokenizing, start: StartWorkers) -> Corpus:
    segments: list[list[Segment]] = [[] for _ in job.names]
    shards = (Shard(source, index) for source, names in enumerate(job.shards) for index in range(len(names)))
    number = sum(map(len, job.shards))
    with start(job) as workers, progress(f"tokenizing {job.field}", number, "shard", delay=BRIEF) as bar:
        for shard, found in workers.in_order(lambda _: next(shards, None)):
            segments[shard.source] += found
            bar.update()
    return Corpus(job.names, segments)


def _taken(corpus: Corpus, stages: list[list[np.ndarray]], seed: int) -> Taken:
    """The documents that each stage takes of each source, shuffled within the stage."""
    writers, counts = [], []
    for number, documents in enumerate(stages):
        chosen = np.concatenate(documents)
        order = np.random.default_rng([seed, len(chosen), *([number] if number else [])]).permutation(chosen)
        writers.append(partial(_write, corpus, order))
        counts.append([Counts() for _ in documents])
        for found, of_source in zip(counts[-1], documents, strict=True):
            found.add(corpus.lengths[of_source], corpus.bytes[of_source])
    return Taken(corpus.names, writers, counts, corpus.skipped, corpus.contaminated)


def _write(corpus: Corpus, order: np.ndarray, writer: RowWriter) -> None:
    lengths = corpus.lengths[order]
    groups = np.cumsum(lengths) // _TOKENS_AT_ONCE
    for group in np.split(order, np.flatnonzero(np.diff(groups)) + 1):
        if len(group):
            writer.add(corpus.tokens(group), corpus.lengths[group], corpus.source[group])


def _mix(corpus: Corpus, orders: list[np.ndarray], settings: PrepareSettings) -> list[list[np.ndarray]]:
    """The documents of each source that each stage takes, in their seeded order.

    Raises:
        ConfigError: a source holds fewer tokens than its share; names it.
    """
    once = [int(corpus.lengths[order].sum()) for order in orders]
    available = [int(count * settings.repeats(name)) for name, count in zip(corpus.names, once, strict=True)]
    orders = [
        _repeated(corpus, order, settings.repeats(name), [settings.seed, index])
        for index, (name, order) in enumerate(zip(corpus.names, orders, strict=True))
    ]
    chosen: list[list[np.ndarray]] = []
    taken, wanted = [0] * len(orders), [0] * len(orders)
    for number, stage in enumerate(settings.all_stages):
        shares, target = _of_stage(stage, corpus.names, available)
        if target is None:
            return [orders]
        chosen.append([])
        for index, (name, share) in enumerate(zip(corpus.names, shares, strict=True)):
            wanted[index] += int(target * share)
            if available[index] < wanted[index]:
                raise settings.too_few_tokens(number, target, share, name, wanted[index], once[index])
            left = orders[index][taken[index] :]
            documents = choose_documents(corpus.lengths, left, int(target * share)) if share else left[:0]
            chosen[-1].append(documents)
            taken[index] += len(documents)
    return chosen


def _of_stage(stage: Stage, names: list[str], available: list[int]) -> tuple[list[float], int | None]:
    """The share of each source, and tokens in all; None takes everything."""
    if stage.mix is None:
        return [count / sum(available) for count in available], stage.num_tokens
    shares = [stage.mix.get(name, 0.0) for name in names]
    return shares, stage.num_tokens or int(min(a / s for a, s in zip(available, shares, strict=True)))


def _repeated(corpus: Corpus, order: np.ndarray, times: float, seed: list[int]) -> np.ndarray:
    """An order of documents, and again in other orders, ``times`` times its tokens in all."""
    passes = [order, *(np.random.default_rng([*seed, number]).permutation(order) for number in range(1, int(times)))]
    part = times - int(times)
    if part:
        last = np.random.default_rng([*seed, int(times)]).permutation(order)
        ends = np.cumsum(corpus.lengths[last])
        passes.append(last[: int(np.searchsorted(ends, int(part * ends[-1]))) + 1])
    return np.concatenate(passes)
