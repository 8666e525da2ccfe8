"""Tokenised documents of several sources on disk, and which of them are held out or chosen by the mix."""

from collections.abc import Iterator
from itertools import compress, islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from transformers import PreTrainedTokenizerBase

from remit_lit.data.dataset_writer import generate
from remit_lit.data.decontamination import Decontamination
from remit_lit.data.packing import TokenStore, choose_documents
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.sources import Source
from remit_lit.data.token_files import TokenFiles
from remit_lit.errors import ConfigError, DataError

# Documents tokenised in one call: enough for the tokenizer's batch speed, few enough to stay small in memory.
_TOKENIZE_BATCH = 512


class Corpus:
    """Tokenised documents of several sources, numbered through.

    Attributes:
        names: of the sources.
        tables: ``input_ids`` and ``bytes`` of each source's documents.
        lengths: tokens of each document, 0 for one that is left out, int64 [documents].
        bytes: UTF-8 bytes of each document, int64 [documents].
        source: index of each document's source, int16 [documents].
        skipped: number of skipped records of each source.
        contaminated: number of documents of each source that share words with evaluation items.
    """

    def __init__(self, tables: dict[str, datasets.Dataset]) -> None:
        self.names, self.tables = list(tables), list(tables.values())
        lengths = [TokenStore([table.data.table]).lengths() for table in self.tables]
        self.lengths = np.concatenate(lengths)
        self.bytes = np.concatenate([table.data.column("bytes").to_numpy() for table in self.tables])
        self.source = np.repeat(np.arange(len(lengths), dtype=np.int16), [len(part) for part in lengths])
        # A skipped record has no bytes, either.
        self.skipped = self._count((self.lengths == 0) & (self.bytes == 0))
        self.contaminated = self._count((self.lengths == 0) & (self.bytes > 0))

    def _count(self, documents: np.ndarray) -> list[int]:
        return np.bincount(self.source[documents], minlength=len(self.names)).tolist()

    def shuffled(self, index: int, seed: int) -> np.ndarray:
        """Documents of source ``index`` in their seeded order, int64."""
        documents = np.flatnonzero((self.source == index) & (self.lengths > 0))
        return np.random.default_rng([seed, index]).permutation(documents)


def tokenize(
    sources: dict[str, Source],
    tokenizer: PreTrainedTokenizerBase,
    num_workers: int,
    directory: Path,
    decontamination: Decontamination | None = None,
) -> Corpus:
    """Write the tokens of each source's documents, EOS appended, below ``directory``.

    Raises:
        ConfigError: tokens of another tokenizer; names the source.
        DataError: a malformed record, or a source without text or with contaminated documents only; names the source.
    """
    tables = {}
    features = datasets.Features(
        {"input_ids": datasets.List(datasets.Value("int32")), "bytes": datasets.Value("int64")}
    )
    for name, source in sources.items():
        if isinstance(source, TokenFiles) and source.end != tokenizer.eos_token_id:
            raise ConfigError(
                f"sources.{name}.end: got {source.end}, but the tokenizer's EOS is {tokenizer.eos_token_id}; the files "
                "must be of that tokenizer"
            )
        try:
            shards = source.shards()
            if not shards:
                raise DataError("no document with text in it")
            tables[name] = generate(
                _tokenized_documents,
                {"shards": shards, "source": source, "tokenizer": tokenizer, "decontamination": decontamination},
                features,
                min(num_workers, len(shards)),
                directory / name,
            )
        except DataError as error:
            raise DataError(f"source {name!r}: {error}") from error
        if not TokenStore([tables[name].data.table]).lengths().any():
            contaminated = np.count_nonzero(tables[name].data.column("bytes").to_numpy())
            why = f"all of its {contaminated} documents share words with the items in decontaminate"
            raise DataError(f"source {name!r}: {why if contaminated else 'no document with text in it'}")
    return Corpus(tables)


def _tokenized_documents(
    shards: list[str], source: Source, tokenizer: PreTrainedTokenizerBase, decontamination: Decontamination | None
) -> Iterator[dict[str, Any]]:
    """One record per document; one that is left out has no tokens, so that it can be counted."""
    eos = tokenizer.eos_token_id
    for shard in shards:
        if isinstance(source, TokenFiles):
            yield from _read_tokens(shard, source, tokenizer, decontamination)
            continue
        texts = source.read(shard)
        while batch := list(islice(texts, _TOKENIZE_BATCH)):
            is_kept = [text is not None and not (decontamination and decontamination.shares(text)) for text in batch]
            kept = [text for text in compress(batch, is_kept) if text is not None]
            encoded = iter(_encode(tokenizer, kept) if kept else [])
            for text, chosen in zip(batch, is_kept, strict=True):
                ids = next(encoded) if chosen else []
                yield {
                    "input_ids": [*ids, eos] if chosen and ids[-1:] != [eos] else ids,
                    "bytes": len((text or "").encode("utf-8", errors="replace")),
                }


def _read_tokens(
    shard: str, source: TokenFiles, tokenizer: PreTrainedTokenizerBase, decontamination: Decontamination | None
) -> Iterator[dict[str, Any]]:
    """As above, of documents that are tokenised already; their text is decoded to be counted and compared."""
    for ids in source.read_ids(shard, len(tokenizer)):
        text = str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        chosen = bool(text) and not (decontamination and decontamination.shares(text))
        ended = ids if ids[-1] == source.end else np.append(ids, np.int32(source.end))
        yield {
            "input_ids": ended if chosen else [],
            "bytes": len(text.encode("utf-8", errors="replace")),
        }


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    try:
        # verbose=False: documents longer than the model's window are cut into rows later.
        ids: list[list[int]] = tokenizer(texts, verbose=False)["input_ids"]
    except Exception as error:  # the Rust tokenizers raise nothing narrower
        raise DataError(f"the tokenizer cannot encode a text ({error}); is it the right tokenizer?") from error
    return ids


def hold_out(corpus: Corpus, settings: PrepareSettings) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Training and held-out documents of each source, by ``validation_share``."""
    orders = [corpus.shuffled(index, settings.seed) for index in range(len(corpus.names))]
    held_out = [int(len(order) * settings.validation_share + 0.5) for order in orders]
    return (
        [order[count:] for order, count in zip(orders, held_out, strict=True)],
        [order[:count] for order, count in zip(orders, held_out, strict=True)],
    )


def mix(corpus: Corpus, orders: list[np.ndarray], settings: PrepareSettings) -> list[np.ndarray]:
    """The documents of each source that the mix and ``num_tokens`` take, in their seeded order.

    Raises:
        ConfigError: a source holds fewer tokens than its share; names it.
    """
    available = [int(corpus.lengths[order].sum()) for order in orders]
    if settings.mix is None:
        total = sum(available)
        target = settings.num_tokens
        shares = [count / total for count in available]
    else:
        shares = [settings.mix[name] for name in corpus.names]
        target = settings.num_tokens or int(min(a / s for a, s in zip(available, shares, strict=True)))
    if target is None:
        return orders
    for name, count, share in zip(corpus.names, available, shares, strict=True):
        if count < int(target * share):
            raise ConfigError(
                f"num_tokens: {target} tokens with a share of {share:.3g} from {name!r} need {int(target * share)} of "
                f"its tokens, but it holds {count}; lower num_tokens or change the mix"
            )
    return [
        choose_documents(corpus.lengths, order, int(target * share))
        for order, share in zip(orders, shares, strict=True)
    ]
