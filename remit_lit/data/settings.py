"""The settings of ``prepare``."""

from dataclasses import dataclass

from remit_lit.data.decontamination import SHORTEST, check_entry
from remit_lit.data.sources import Source
from remit_lit.errors import ConfigError, did_you_mean, require_range


@dataclass
class PrepareSettings:
    """What ``prepare`` makes rows from.

    Attributes:
        tokenizer: hub id or local directory of the tokenizer, that of the model to train; ``lab/base`` and
            ``lab/bytes`` (any text, a byte a token) are embedded.
        sources: documents to train on, by name; each a class_path such as JsonLines, Parquet, PlainText,
            HuggingFaceDataset.
        sequence_length: tokens in a row; the model's context length, or less to save memory.
        mix: share of tokens from each source, e.g. {web: 0.6, code: 0.4}; null takes every document once.
        num_tokens: tokens to train on; null takes as many as the mix allows without repeating a document.
        validation: held-out documents, by name; null holds out validation_share of each training source.
        validation_share: share of each training source's documents to hold out, in [0, 1); more for a steadier
            validation loss. Without effect where validation is given.
        decontaminate: leave out training documents that share a run of words with the items of these: evaluation
            tasks (lab, or of lm-evaluation-harness), or .jsonl or .txt files of items; null leaves out none.
        decontaminate_ngram: words in such a run, at least 5; fewer leave out more documents. 13 as in GPT-3.
        seed: of the order of documents, and of the choice of those held out.
        num_workers: processes that tokenize; more are faster, and the rows stay the same.
        tokenizer_revision: branch, tag or commit of the tokenizer on the hub; null is its default branch.
    """

    tokenizer: str
    sources: dict[str, Source]
    sequence_length: int = 2048
    mix: dict[str, float] | None = None
    num_tokens: int | None = None
    validation: dict[str, Source] | None = None
    validation_share: float = 0.01
    decontaminate: list[str] | None = None
    decontaminate_ngram: int = 13
    seed: int = 0
    num_workers: int = 1
    tokenizer_revision: str | None = None

    def check_sources(self) -> None:
        """Raise ConfigError where a source or ``decontaminate`` names files that are not there."""
        for field, sources in (("sources", self.sources), ("validation", self.validation or {})):
            for name, source in sources.items():
                try:
                    source.check()
                except ConfigError as error:
                    raise ConfigError(f"{field}.{name}.init_args.{error}") from error
        for entry in self.decontaminate or ():
            check_entry(entry)

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
        if self.decontaminate == []:
            raise ConfigError("decontaminate: got an empty list; name tasks or files, or give null")
        if self.decontaminate_ngram < SHORTEST:
            raise ConfigError(f"decontaminate_ngram: got {self.decontaminate_ngram}; give at least {SHORTEST} words")
        if self.mix is not None:
            if set(self.mix) != set(self.sources):
                odd = sorted(set(self.mix) - set(self.sources))
                near = did_you_mean(odd[0], self.sources) if odd else ""
                raise ConfigError(
                    f"mix: names {sorted(self.mix)}, but sources are {sorted(self.sources)}; {near}give all"
                )
            for name, share in self.mix.items():
                require_range(f"mix.{name}", share, 0.0, 1.0)
            if abs(sum(self.mix.values()) - 1) > 1e-6:
                raise ConfigError(f"mix: shares sum to {sum(self.mix.values()):g}; they must sum to 1")
