"""The settings of ``prepare``."""

import math
from dataclasses import dataclass
from typing import Literal

from remit_lit.data.decontamination import SHORTEST, check_entry
from remit_lit.data.mixing import Stage, check_mix
from remit_lit.data.sources import Source
from remit_lit.errors import ConfigError, did_you_mean, not_among, require_range

_DRAWS = ("documents", "shards")
_MOST_REPEATS = 100.0


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
        stages: parts of training in order, each with num_tokens and a mix of its own, in the place of num_tokens and
            mix; null is one.
        repeat: how often the documents of a source may be taken, e.g. {math: 2.5}, where its share needs more tokens
            than it holds; without shares, how often they are. null takes each once.
        draw: documents tokenizes every source whole and takes a random sample of documents; shards reads the files of a
            source, or pieces of large ones, in a random order until its share is filled, and no further.
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
    stages: list[Stage] | None = None
    repeat: dict[str, float] | None = None
    draw: Literal["documents", "shards"] = "documents"

    @property
    def all_stages(self) -> list[Stage]:
        """The stages, or the only one."""
        return self.stages or [Stage(self.num_tokens, self.mix)]

    def repeats(self, source: str) -> float:
        """How often the documents of a source may be taken."""
        return (self.repeat or {}).get(source, 1.0)

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
        self._require_a_row("num_tokens", self.num_tokens)
        if not 0 <= self.validation_share < 1:
            raise ConfigError(f"validation_share: got {self.validation_share}; give a number in [0, 1)")
        if self.decontaminate == []:
            raise ConfigError("decontaminate: got an empty list; name tasks or files, or give null")
        if self.decontaminate_ngram < SHORTEST:
            raise ConfigError(f"decontaminate_ngram: got {self.decontaminate_ngram}; give at least {SHORTEST} words")
        if self.mix is not None:
            check_mix("mix", self.mix, list(self.sources), of_all=True)
        self._check_stages()
        self._check_repeat()
        self._check_draw()

    def too_few_tokens(self, stage: int, target: int, share: float, name: str, wanted: int, once: int) -> ConfigError:
        """The error of a source that ends before its share.

        Args:
            stage: index of the stage.
            target: tokens of the stage.
            share: of the source in it.
            name: of the source.
            wanted: tokens of the source, in this stage and those before.
            once: tokens that the source holds.
        """
        field = "num_tokens" if self.stages is None else f"stages.{stage}.num_tokens"
        need = f"need {wanted}" if not stage else f"need, with the stages before, {wanted}"
        times = f" and may be taken {self.repeats(name):g} times" if self.repeats(name) != 1 else ""
        mix = "mix" if self.stages is None else f"stages.{stage}.mix"
        enough = math.ceil(wanted / max(once, 1) * 10) / 10
        remedy = f"lower {field} or change the {mix}"
        if enough <= _MOST_REPEATS:
            remedy = f"lower {field}, change the {mix}, or take its documents more often (repeat.{name}: {enough:g})"
        return ConfigError(
            f"{field}: {target} tokens with a share of {share:.3g} from {name!r} {need} of its tokens, but it holds "
            f"{once}{times}; {remedy}"
        )

    def _require_a_row(self, field: str, tokens: int | None) -> None:
        if tokens is not None and tokens < self.sequence_length:
            raise ConfigError(f"{field}: got {tokens}; give at least one row of {self.sequence_length}")

    def _check_stages(self) -> None:
        if self.stages is None:
            return
        if not self.stages:
            raise ConfigError("stages: got none; give each its num_tokens and mix, or give null")
        for field in ("num_tokens", "mix"):
            if getattr(self, field) is not None:
                raise ConfigError(f"{field}: got {getattr(self, field)} beside stages; give it to each of the stages")
        for number, stage in enumerate(self.stages):
            for name in ("num_tokens", "mix"):
                if getattr(stage, name) is None:
                    raise ConfigError(f"stages.{number}.{name}: got null; a stage needs num_tokens and mix")
            self._require_a_row(f"stages.{number}.num_tokens", stage.num_tokens)
            check_mix(f"stages.{number}.mix", stage.mix or {}, list(self.sources), of_all=False)
        unused = sorted(set(self.sources).difference(*(stage.mix or {} for stage in self.stages)))
        if unused:
            raise ConfigError(f"stages: none has a share of {unused}; give them one, or take them out of sources")

    def _check_repeat(self) -> None:
        for name, times in (self.repeat or {}).items():
            if name not in self.sources:
                near = did_you_mean(name, self.sources)
                raise ConfigError(f"repeat: names {name!r}, but sources are {sorted(self.sources)}; {near}name those")
            require_range(f"repeat.{name}", times, 1.0, _MOST_REPEATS, include_low=True)

    def _check_draw(self) -> None:
        if self.draw not in _DRAWS:
            raise ConfigError(f"draw: {not_among(self.draw, _DRAWS)}")
        if self.draw == "documents" or self.stages is not None:
            return
        if self.mix is None and self.num_tokens is not None and len(self.sources) > 1:
            raise ConfigError(
                "draw: got 'shards' with num_tokens and without mix, but how large the sources are is not known "
                "before they are read; give mix, or draw: documents"
            )
        if self.mix is not None and self.num_tokens is None:
            raise ConfigError(
                "draw: got 'shards' with mix and without num_tokens, but how much the mix allows is not known before "
                "the sources are read; give num_tokens, or draw: documents"
            )
