"""Which documents share a run of words with evaluation items, so that ``prepare`` leaves them out.

The rule is that of GPT-3 (Brown et al. 2020, appendix C) and of lm-evaluation-harness' ``janitor``: texts are
lower-cased, their punctuation is deleted, and a document is dropped if any ``ngram`` consecutive words of it are those
of an item.
Unlike there, the whole document goes, not 200 characters around the match, and punctuation is that of all scripts.

An item of fewer words is matched as a whole: anywhere in a document if it has at least ``SHORTEST`` words, else only
in a document that is nothing but the item. Scripts without spaces between words are therefore matched hardly at all.
"""

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remit_lit.data.sources import PlainText
from remit_lit.errors import ConfigError, DataError

Hashes = NDArray[np.uint64]

SHORTEST = 5  # words; a shorter run is in many documents by chance
_PUNCTUATION = re.compile(r"[^\w\s]|_")
_MULTIPLIER = 0x9E3779B97F4A7C15  # any odd number
_FILE_ENDINGS = (".jsonl", ".txt")


@dataclass(frozen=True, eq=False)
class Decontamination:
    """The runs of words in evaluation items, hashed to 64 bits.

    With a billion runs in the documents and a million in the items, one corpus in 20,000 has a false match.

    Attributes:
        ngram: words in a run.
        runs: hashes of the items' runs, by their number of words, sorted.
        items: number and fingerprint of the items of each task or file.
    """

    ngram: int
    runs: dict[int, Hashes]
    items: dict[str, dict[str, Any]]

    def shares(self, text: str) -> bool:
        """Whether a document shares a run of words with an item."""
        words = _word_hashes(text)
        for length, hashes in _runs(words, self.ngram):
            of_items = self.runs.get(length)
            if of_items is None or (length < SHORTEST and length != len(words)):
                continue
            places = np.searchsorted(of_items, hashes)
            if (of_items[np.minimum(places, len(of_items) - 1)] == hashes).any():
                return True
        return False


def read_items(entries: Iterable[str], ngram: int) -> Decontamination:
    """Read evaluation items.

    Args:
        entries: names of evaluation tasks, or paths of files: ``.jsonl`` with an object a line, whose texts together
            are an item, or ``.txt`` with an item a line.
        ngram: words in a run.

    Raises:
        ConfigError: there is no such task or file, or its items cannot be loaded.
        DataError: a file is malformed (naming the line), or there is no item with a word.
    """
    runs: dict[int, list[Hashes]] = {}
    texts: dict[str, list[str]] = {}
    for entry in entries:
        has_words = False
        for task, text in _items(entry):
            texts.setdefault(task, []).append(text)
            words = _word_hashes(text)
            for length, hashes in _runs(words, ngram):
                if length == min(ngram, len(words)):
                    runs.setdefault(length, []).append(hashes)
                    has_words = True
        if not has_words:
            raise DataError(f"decontaminate: {entry!r} has no item with a word in it")
    items = {task: {"items": len(of_task), "fingerprint": _fingerprint(of_task)} for task, of_task in texts.items()}
    merged = {length: np.unique(np.concatenate(hashes)) for length, hashes in runs.items()}
    return Decontamination(ngram, merged, items)


def _fingerprint(texts: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        digest.update(text.encode("utf-8", errors="replace") + b"\0")
    return digest.hexdigest()


def check_entry(entry: str) -> None:
    """Raise ConfigError where ``entry`` is the path of a file that is not there."""
    if _is_path(entry) and not Path(entry).is_file():
        raise ConfigError(f"decontaminate: there is no file {entry!r}; give a task's name, or a .jsonl or .txt file")


def _is_path(entry: str) -> bool:
    return entry.endswith(_FILE_ENDINGS)


def _items(entry: str) -> Iterator[tuple[str, str]]:
    """Name of the task or file, and text, of each item."""
    if _is_path(entry):
        check_entry(entry)
        yield from ((entry, text) for text in _file_texts(entry))
    else:
        from remit_lit.benchmarks.items import evaluation_items  # as late as lm_eval, which it imports

        yield from evaluation_items(entry)


def _file_texts(entry: str) -> Iterator[str]:
    for number, line in enumerate(PlainText(entry, document="line").read(entry), start=1):
        if line is None or not line.strip():
            continue
        if entry.endswith(".txt"):
            yield line
            continue
        try:
            yield " ".join(_strings(json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise DataError(f"decontaminate: {entry}, line {number}: not JSON ({error})") from error


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)


def _word_hashes(text: str) -> Hashes:
    """[words] hash of each word."""
    words = _PUNCTUATION.sub("", text.lower()).split()
    return np.fromiter(map(_word_hash, words), np.uint64, len(words))


@functools.lru_cache(maxsize=2**18)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", errors="replace"), digest_size=8).digest(), "little")


def _runs(words: Hashes, longest: int) -> Iterator[tuple[int, Hashes]]:
    """The hash of each run of 1, 2, ... ``longest`` words: a polynomial modulo 2**64, [words - length + 1]."""
    sums = np.zeros_like(words)
    for length in range(1, min(longest, len(words)) + 1):
        sums = sums[: len(words) - length + 1] + words[length - 1 :] * np.uint64(pow(_MULTIPLIER, length, 2**64))
        yield length, sums
