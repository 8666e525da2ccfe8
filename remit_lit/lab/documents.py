"""The lab's general text: a fixed sparse Markov language, and uniformly random noise in the same alphabet.

The language does not depend on any seed (a seed chooses documents, not grammar), so that a base model's knowledge
of it means the same in every run.
"""

import random
from collections.abc import Iterator
from typing import Literal

from remit_lit.lab.task import Split, split_of, task_documents
from remit_lit.lab.tokenizer import ALPHABET, DOCUMENT_CHARACTERS

SUCCESSOR_PROBABILITIES = (0.55, 0.25, 0.15, 0.05)  # 1.11 nats a character


def _successors() -> dict[str, str]:
    rng = random.Random("web language")
    return {character: "".join(rng.sample(ALPHABET, len(SUCCESSOR_PROBABILITIES))) for character in ALPHABET}


SUCCESSORS = _successors()


def web_documents(rng: random.Random, split: Split) -> Iterator[str]:
    """Endless documents of the Markov language that belong to ``split``."""
    while True:
        text = rng.choice(ALPHABET)
        while len(text) < DOCUMENT_CHARACTERS:
            text += rng.choices(SUCCESSORS[text[-1]], SUCCESSOR_PROBABILITIES)[0]
        if split_of(text) == split:
            yield text


def noise_documents(rng: random.Random, split: Split) -> Iterator[str]:
    """Endless documents of independent uniform characters that belong to ``split``: nothing in them can be learned."""
    while True:
        text = "".join(rng.choices(ALPHABET, k=DOCUMENT_CHARACTERS))
        if split_of(text) == split:
            yield text


Kind = Literal["web", "noise", "correct", "wrong"]


def lab_documents(kind: Kind, split: Split, rng: random.Random) -> Iterator[str]:
    """Endless documents of ``kind`` that belong to ``split``, without BOS and EOS, 31 characters each."""
    if kind == "web":
        return web_documents(rng, split)
    if kind == "noise":
        return noise_documents(rng, split)
    return task_documents(rng, split, wrong=kind == "wrong")
