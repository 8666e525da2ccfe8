"""Text to packed rows on disk: tokenise, choose documents by the mix, pack, write a manifest, rename into place."""

import functools
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets.exceptions import DatasetGenerationError
from transformers import PreTrainedTokenizerBase

from remit_lit.data.manifest import SPLITS, rows_fingerprint, settings_of, write_manifest
from remit_lit.data.packing import Packing, TokenStore, choose_documents
from remit_lit.data.sources import Source
from remit_lit.errors import ConfigError, DataError, require_range
from remit_lit.tokenization import load_tokenizer

# Documents tokenised in one call: enough for the tokenizer's batch speed, few enough to stay small in memory.
_TOKENIZE_BATCH = 512
_ROWS_PER_PIECE = 8192


@dataclass
class PrepareSettings:
    """What ``prepare`` makes rows from.

    Attributes:
        tokenizer: hub id or local directory of the tokenizer (``lab/base`` is the embedded one).
        sources: documents to train on, by name; each a class_path such as JsonLines, Parquet, PlainText,
            HuggingFaceDataset.
        sequence_length: tokens in a row.
        mix: share of tokens of each source, e.g. {web: 0.6, code: 0.4}; null takes every document once.
        num_tokens: tokens to train on; null takes as many as the mix allows without repeating a document.
        validation: held-out documents, by name; null holds out validation_share of each training source.
        validation_share: share of the documents of each training source that is held out, in [0, 1).
        seed: of the order of documents.
        num_workers: processes; the rows do not depend on it.
        tokenizer_revision: branch, tag or commit on the hub.
    """

    tokenizer: str
    sources: dict[str, Source]
    sequence_length: int = 2048
    mix: dict[str, float] | None = None
    num_tokens: int | None = None
    validation: dict[str, Source] | None = None
    validation_share: float = 0.01
    seed: int = 0
    num_workers: int = 1
    tokenizer_revision: str | None = None

    def check_sources(self) -> None:
        """Raise ConfigError where a source names files that are not there."""
        for source in (*self.sources.values(), *(self.validation or {}).values()):
            source.check()

    def check(self) -> None:
        """Refuse settings that cannot work, before any file is read.

        Raises:
            ConfigError: naming the field, what it got and what would be right.
        """
        if not self.sources:
            raise ConfigError("sources: got none; name at least one source of documents")
        if self.sequence_length < 2:
            raise ConfigError(f"sequence_length: got {self.sequence_length}; give at least 2 tokens")
        if self.num_workers < 1:
            raise ConfigError(f"num_workers: got {self.num_workers}; give at least 1 process")
        if self.num_tokens is not None and self.num_tokens < self.sequence_length:
            raise ConfigError(f"num_tokens: got {self.num_tokens}; give at least one row of {self.sequence_length}")
        if not 0 <= self.validation_share < 1:
            raise ConfigError(f"validation_share: got {self.validation_share}; give a number in [0, 1)")
        if self.mix is not None:
            if set(self.mix) != set(self.sources):
                raise ConfigError(f"mix: names {sorted(self.mix)}, but sources are {sorted(self.sources)}")
            for name, share in self.mix.items():
                require_range(f"mix.{name}", share, 0.0, 1.0)
            if abs(sum(self.mix.values()) - 1) > 1e-6:
                raise ConfigError(f"mix: shares sum to {sum(self.mix.values()):g}; they must sum to 1")


@dataclass
class _Corpus:
    """Tokenised documents of several sources, numbered through."""

    names: list[str]
    tables: list[datasets.Dataset] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bytes = np.zeros(0, np.int64)
        self.lengths = np.zeros(0, np.int64)
        self.source = np.zeros(0, np.int16)

    def add(self, table: datasets.Dataset) -> None:
        lengths = TokenStore([table.data.table]).lengths()
        self.skipped.append(int((lengths == 0).sum()))
        self.source = np.concatenate([self.source, np.full(len(lengths), len(self.tables), np.int16)])
        self.lengths = np.concatenate([self.lengths, lengths])
        self.bytes = np.concatenate([self.bytes, np.asarray(table.data.column("bytes").to_numpy())])
        self.tables.append(table)

    def shuffled(self, index: int, seed: int) -> np.ndarray:
        """Documents of source ``index`` in their seeded order, int64."""
        documents = np.flatnonzero((self.source == index) & (self.lengths > 0))
        return np.random.default_rng([seed, index]).permutation(documents)


def prepare(output: str | Path, settings: PrepareSettings, *, overwrite: bool = False) -> Path:
    """Write packed rows to ``output``: ``train/``, ``validation/`` (``datasets``, Arrow) and ``manifest.json``.

    The same seed gives the same bytes, whatever the number of workers. Nothing is at ``output`` until all is written.

    Raises:
        ConfigError: settings that cannot work, or ``output`` exists and ``overwrite`` is False.
        DataError: a malformed record (naming file and line), a missing field, or too little text for one row.
    """
    settings.check()
    settings.check_sources()
    output = Path(output)
    if output.exists() and not overwrite:
        raise ConfigError(f"output: {output} exists; give another directory, or --overwrite true")
    tokenizer = load_tokenizer(settings.tokenizer, settings.tokenizer_revision)
    output.parent.mkdir(parents=True, exist_ok=True)
    for stale in output.parent.glob(f".{output.name}.partial-*"):
        shutil.rmtree(stale)
    partial = Path(tempfile.mkdtemp(prefix=f".{output.name}.partial-", dir=output.parent))
    try:
        _write(partial, tokenizer, settings)
        if output.exists():
            shutil.rmtree(output)
        (partial / "rows").rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return output


def _write(partial: Path, tokenizer: PreTrainedTokenizerBase, settings: PrepareSettings) -> None:
    training = _tokenize(settings.sources, tokenizer, settings.num_workers, partial / "tokens")
    if settings.validation is None:
        chosen, held_out = _split(training, settings)
        validation = training
    else:
        chosen = [training.shuffled(index, settings.seed) for index in range(len(training.names))]
        validation = _tokenize(settings.validation, tokenizer, settings.num_workers, partial / "validation-tokens")
        held_out = [validation.shuffled(index, settings.seed) for index in range(len(validation.names))]
    chosen = _mix(training, chosen, settings)
    rows = partial / "rows"
    counts, fingerprints = {}, {}
    for split, corpus, documents in zip(SPLITS, (training, validation), (chosen, held_out), strict=True):
        packing = _pack(corpus, documents, settings)
        if packing.num_rows == 0:
            if split == "train":
                tokens = int(packing.ends[-1]) if len(packing.ends) else 0
                raise DataError(f"sources: {tokens} tokens in all, less than one row of {settings.sequence_length}")
            continue
        table = _write_rows(packing, corpus, partial / f"packing-{split}", settings.num_workers)
        table.save_to_disk(rows / split)
        counts[split] = {"rows": packing.num_rows, "sources": _count(corpus, documents)}
        fingerprints[split] = rows_fingerprint(table)
    write_manifest(rows, tokenizer, settings_of(settings), counts, fingerprints)


def _tokenize(
    sources: dict[str, Source], tokenizer: PreTrainedTokenizerBase, num_workers: int, directory: Path
) -> _Corpus:
    corpus = _Corpus(list(sources))
    features = datasets.Features(
        {"input_ids": datasets.List(datasets.Value("int32")), "bytes": datasets.Value("int64")}
    )
    for name, source in sources.items():
        shards = source.shards()
        try:
            table = _generate(
                _tokenized_documents,
                {"shards": shards, "source": source, "tokenizer": tokenizer},
                features,
                min(num_workers, len(shards)),
                directory / name,
            )
        except DataError as error:
            raise DataError(f"source {name!r}: {error}") from error
        corpus.add(table)
        if not (TokenStore([table.data.table]).lengths() > 0).any():
            raise DataError(f"source {name!r}: no document with text in it")
    return corpus


def _generate(
    generator: Any, arguments: dict[str, Any], features: datasets.Features, num_workers: int, directory: Path
) -> datasets.Dataset:
    complaint = directory / "complaint.txt"
    directory.mkdir(parents=True)
    try:
        dataset = datasets.Dataset.from_generator(
            functools.partial(_complaining, generator, complaint),
            features=features,
            cache_dir=str(directory),
            gen_kwargs=arguments,
            num_proc=num_workers if num_workers > 1 else None,
            fingerprint="generated",  # else all arguments are pickled and hashed for a cache that is never reused
        )
    except DatasetGenerationError:
        if complaint.exists():
            raise DataError(complaint.read_text()) from None
        raise
    assert isinstance(dataset, datasets.Dataset)
    return dataset


def _complaining(generator: Any, complaint: Path, **arguments: Any) -> Iterator[dict[str, Any]]:
    """Leave the message of a DataError in a file: `datasets` drops the cause of an error in a worker process."""
    try:
        yield from generator(**arguments)
    except DataError as error:
        complaint.write_text(str(error))
        raise


def _tokenized_documents(
    shards: list[str], source: Source, tokenizer: PreTrainedTokenizerBase
) -> Iterator[dict[str, Any]]:
    """One record per document; a skipped one has no tokens, so that it can be counted."""
    eos = tokenizer.eos_token_id
    for shard in shards:
        texts = source.read(shard)
        while batch := list(islice(texts, _TOKENIZE_BATCH)):
            kept = [text for text in batch if text is not None]
            # verbose=False: documents longer than the model's window are cut into rows later.
            encoded = iter(tokenizer(kept, verbose=False)["input_ids"] if kept else [])
            for text in batch:
                if text is None:
                    yield {"input_ids": [], "bytes": 0}
                    continue
                ids = next(encoded)
                yield {
                    "input_ids": ids if ids and ids[-1] == eos else [*ids, eos],
                    "bytes": len(text.encode("utf-8", errors="replace")),
                }


def _split(corpus: _Corpus, settings: PrepareSettings) -> tuple[list[np.ndarray], list[np.ndarray]]:
    orders = [corpus.shuffled(index, settings.seed) for index in range(len(corpus.names))]
    held_out = [int(len(order) * settings.validation_share + 0.5) for order in orders]
    return (
        [order[count:] for order, count in zip(orders, held_out, strict=True)],
        [order[:count] for order, count in zip(orders, held_out, strict=True)],
    )


def _mix(corpus: _Corpus, orders: list[np.ndarray], settings: PrepareSettings) -> list[np.ndarray]:
    available = [int(corpus.lengths[order].sum()) for order in orders]
    if settings.mix is None:
        total = sum(available)
        wanted = settings.num_tokens
        shares = [count / total for count in available]
    else:
        shares = [settings.mix[name] for name in corpus.names]
        wanted = settings.num_tokens or int(min(a / s for a, s in zip(available, shares, strict=True)))
    if wanted is None:
        return orders
    for name, count, share in zip(corpus.names, available, shares, strict=True):
        if count < int(wanted * share):
            raise ConfigError(
                f"num_tokens: {wanted} tokens with {share:.3g} of them from {name!r} need {int(wanted * share)}, "
                f"but it holds {count}; lower num_tokens or change the mix"
            )
    return [
        choose_documents(corpus.lengths, order, int(wanted * share))
        for order, share in zip(orders, shares, strict=True)
    ]


def _pack(corpus: _Corpus, documents: list[np.ndarray], settings: PrepareSettings) -> Packing:
    chosen = np.concatenate(documents)
    order = np.random.default_rng([settings.seed, len(chosen)]).permutation(chosen)
    return Packing(order, np.cumsum(corpus.lengths[order]), corpus.source[order], settings.sequence_length)


def _write_rows(packing: Packing, corpus: _Corpus, directory: Path, num_workers: int) -> datasets.Dataset:
    features = datasets.Features(
        {
            "input_ids": datasets.List(datasets.Value("int32"), length=packing.sequence_length),
            "document_lengths": datasets.List(datasets.Value("int32")),
            "document_sources": datasets.List(datasets.Value("int16")),
        }
    )
    pieces = list(range(0, packing.num_rows, _ROWS_PER_PIECE))
    # `datasets` shares every list among the workers, so what all of them need is a tuple.
    arguments = {"pieces": pieces, "packing": packing, "tables": tuple(corpus.tables)}
    return _generate(_packed_rows, arguments, features, min(num_workers, len(pieces)), directory)


def _packed_rows(pieces: list[int], packing: Packing, tables: tuple[datasets.Dataset, ...]) -> Iterator[dict[str, Any]]:
    store = TokenStore([table.data.table for table in tables])
    for start in pieces:
        yield from packing.rows(start, min(start + _ROWS_PER_PIECE, packing.num_rows), store)


def _count(corpus: _Corpus, documents: list[np.ndarray]) -> dict[str, dict[str, int]]:
    return {
        name: {
            "documents": len(chosen),
            "tokens": int(corpus.lengths[chosen].sum()),
            "bytes": int(corpus.bytes[chosen].sum()),
            "skipped": skipped,
        }
        for name, chosen, skipped in zip(corpus.names, documents, corpus.skipped, strict=True)
    }
