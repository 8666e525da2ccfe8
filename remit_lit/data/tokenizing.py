"""Shards of sources to segments of tokens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress, islice
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase, TokenizersBackend

from remit_lit.data import kept_shards
from remit_lit.data.decontamination import Decontamination
from remit_lit.data.segments import Records, Segment
from remit_lit.data.sources import MalformedRecord, Source
from remit_lit.data.token_files import TokenSource
from remit_lit.errors import ConfigError, DataError
from remit_lit.models.tokenization import tokenizer_fingerprint

# Documents tokenised in one call: enough for the tokenizer's batch speed, few enough to stay small in memory.
_TOKENIZE_BATCH = 512
# A shard is written in segments of about this many tokens, which bound the memory of a process.
_SEGMENT_TOKENS = 16 * 2**20


@dataclass(frozen=True)
class Parts:
    """How documents are dealt out to the parts of their segments, by numbers that depend on the seed and the shard.

    Attributes:
        training: parts of training documents, which follow those of held-out ones.
        held_out: parts of held-out documents; 0 holds out none.
        share: of documents to hold out.
        seed: of the choice.
    """

    training: int = 1
    held_out: int = 0
    share: float = 0.0
    seed: int = 0

    @property
    def number(self) -> int:
        return self.held_out + self.training

    def dealer(self, shard: "Shard") -> Callable[[], int | None]:
        """The part of each document of a shard, in order; None for one that an earlier pass held out."""
        numbers = [self.seed, shard.source, shard.index]
        # Which documents are held out is the same in every pass, and where copies of a document stand is not.
        holds, places = (np.random.default_rng([*numbers, stream]) for stream in (0, 1 + shard.number_of_pass))

        def deal() -> int | None:
            place, is_held_out = places.random(), holds.random() < self.share
            if is_held_out:
                return None if shard.number_of_pass else int(place * self.held_out)
            return self.held_out + int(place * self.training)

        return deal


@dataclass(frozen=True)
class Shard:
    """A shard to read.

    Attributes:
        source: index of its source.
        index: of the shard among those of its source.
        number_of_pass: how often it was read before.
        at_most: tokens of training documents after which the rest of it need not be read; None reads it whole.
    """

    source: int
    index: int
    number_of_pass: int = 0
    at_most: int | None = None


@dataclass(frozen=True)
class Tokenizing:
    """Sources, and how their documents become segments of tokens.

    Attributes:
        names: of the sources.
        sources: where the documents come from.
        shards: names of each source's shards.
        tokenizer: of the model.
        directory: of the segments.
        decontamination: items that no document may share words with; None compares with none.
        parts: of a segment.
        field: of the settings that has the sources.
    """

    names: list[str]
    sources: list[Source]
    shards: list[list[str]]
    tokenizer: PreTrainedTokenizerBase
    directory: Path
    decontamination: Decontamination | None = None
    parts: Parts = Parts()
    field: str = "sources"

    @classmethod
    def of(
        cls,
        sources: dict[str, Source],
        tokenizer: PreTrainedTokenizerBase,
        directory: Path,
        decontamination: Decontamination | None = None,
        field: str = "sources",
    ) -> "Tokenizing":
        """How sources are tokenised, with their shards.

        Raises:
            ConfigError: a dataset that cannot be read, or tokens of another tokenizer; names the source's field.
            DataError: a source without any shard; names it.
        """
        shards = []
        for name, source in sources.items():
            if isinstance(source, TokenSource) and source.end != tokenizer.eos_token_id:
                raise ConfigError(
                    f"{field}.{name}.init_args.end: got {source.end}, but the tokenizer's EOS is "
                    f"{tokenizer.eos_token_id}; the files must be of that tokenizer"
                )
            with _naming(field, name):
                shards.append(source.shards())
            require_text(name, len(shards[-1]), 0)
        return cls(list(sources), list(sources.values()), shards, tokenizer, directory, decontamination, field=field)

    def identity(self) -> dict[str, Any]:
        """What decides the tokens of the shards, as JSON values: the tokenizer, their names, and the files."""
        facts = {
            name: {"shards": shards, "files": [_file_facts(path) for path in source.files_read()]}
            for name, source, shards in zip(self.names, self.sources, self.shards, strict=True)
        }
        return {"tokenizer": tokenizer_fingerprint(self.tokenizer), "sources": facts}

    def segments(self, shard: Shard) -> list[Segment]:
        """Tokenise one shard, unless a process that was stopped has.

        Raises:
            ConfigError: a dataset that cannot be read; names the source's field.
            DataError: a malformed record; names the source's field, file and line.
        """
        name = f"{shard.source}-{shard.index}-{shard.number_of_pass}"
        if (kept := kept_shards.find(self.directory, name)) is not None:
            return kept
        with _naming(self.field, self.names[shard.source]):
            segments = list(self._segments(shard, name))
        kept_shards.keep(self.directory, name, segments)
        return segments

    def _segments(self, shard: Shard, name: str) -> Iterator[Segment]:
        deal, taken, number = self.parts.dealer(shard), 0, 0
        documents = self._documents(self.sources[shard.source], self.shards[shard.source][shard.index])
        tokens: list[np.ndarray] = []
        facts: list[tuple[int, int, int]] = []
        size = 0

        def written() -> Segment:
            path = kept_shards.segment_path(self.directory, name, number)
            lengths, sizes, parts = np.array(facts, np.int64).reshape(-1, 3).T
            records = Records(lengths.astype(np.int32), sizes, parts.astype(np.int32))
            return Segment.write(path, np.concatenate([np.zeros(0, np.int32), *tokens]), records, self.parts.number)

        for ids, num_bytes in documents:
            part = deal()
            if part is None or (shard.number_of_pass and not len(ids)):
                continue
            tokens.append(ids)
            facts.append((len(ids), num_bytes, part))
            size += len(ids)
            taken += len(ids) if part >= self.parts.held_out else 0
            if shard.at_most is not None and taken >= shard.at_most:
                break
            if size >= _SEGMENT_TOKENS:
                yield written()
                tokens, facts, size, number = [], [], 0, number + 1
        yield written()

    def _documents(self, source: Source, shard: str) -> Iterator[tuple[np.ndarray, int]]:
        """Tokens, EOS appended, int32 [tokens], and bytes of each document; one that is left out has no tokens."""
        nothing, eos = np.zeros(0, np.int32), self.tokenizer.eos_token_id
        if isinstance(source, TokenSource):
            for ids in source.read_ids(shard, len(self.tokenizer)):
                text = str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
                is_ended = len(ids) > 0 and ids[-1] == source.end
                ended = ids if is_ended else np.append(ids, np.int32(source.end))
                yield ended if text and self._is_kept(text) else nothing, _size(text)
            return
        texts = source.read(shard)
        while batch := list(islice(texts, _TOKENIZE_BATCH)):
            is_kept = [given is not None and self._is_kept(given) for given in batch]
            kept = [given for given in compress(batch, is_kept) if given is not None]
            encoded = iter(_encode(self.tokenizer, kept) if kept else [])
            for given, chosen in zip(batch, is_kept, strict=True):
                tokens = next(encoded) if chosen else []
                if chosen and tokens[-1:] != [eos]:
                    tokens = [*tokens, eos]
                yield np.array(tokens, np.int32), _size(given or "")

    def _is_kept(self, text: str) -> bool:
        return not (self.decontamination and self.decontamination.shares(text))


def _file_facts(path: str) -> list[str | int]:
    facts = Path(path).stat()
    return [path, facts.st_size, facts.st_mtime_ns]


@contextmanager
def _naming(field: str, name: str) -> Iterator[None]:
    """Within, errors of a source name it: what its settings are to blame for, by their field."""
    try:
        yield
    except MalformedRecord as error:
        raise DataError(f"{field}.{name}.init_args.on_malformed: source {name!r}: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{field}.{name}.init_args.{error}") from error
    except DataError as error:
        raise DataError(f"source {name!r}: {error}") from error


def require_text(name: str, documents: int, contaminated: int) -> None:
    """Raise DataError for a source of which no document is left."""
    if documents == 0:
        why = f"all of its {contaminated} documents share words with the items in decontaminate"
        raise DataError(f"source {name!r}: {why if contaminated else 'no document with text in it'}")


def _size(text: str) -> int:
    return len(text.encode("utf-8", errors="replace"))


def _calls_backend(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a call of the tokenizer is one of its Rust tokenizer, and no subclass has a say in it."""
    kind = type(tokenizer)
    return (
        isinstance(tokenizer, TokenizersBackend)
        and kind._encode_plus is TokenizersBackend._encode_plus
        and kind.__call__ is PreTrainedTokenizerBase.__call__
    )


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    try:
        if _calls_backend(tokenizer):
            # As transformers calls it, but without offsets and masks: a third less time for short documents.
            backend = tokenizer.backend_tokenizer
            backend.no_truncation()
            backend.no_padding()
            backend.encode_special_tokens = tokenizer.split_special_tokens
            return [encoding.ids for encoding in backend.encode_batch_fast(texts)]
        # verbose=False: documents longer than the model's window are cut into rows later.
        ids: list[list[int]] = tokenizer(texts, verbose=False)["input_ids"]
    except Exception as error:  # the Rust tokenizers raise nothing narrower
        raise DataError(f"the tokenizer cannot encode a text ({error}); is it the right tokenizer?") from error
    return ids
