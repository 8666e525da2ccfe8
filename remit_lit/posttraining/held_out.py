"""Problems that training must never see: the check at the start of every stage."""

import hashlib
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset

from remit_lit.errors import DataError
from remit_lit.lab.task import parse_prompt, split_of
from remit_lit.posttraining.examples import Examples
from remit_lit.runs.configuration import Configured


class HeldOut(Configured, ABC):
    """A set of prompts that no stage may train on."""

    def check(self) -> None:
        """Refuse problems that are plainly not there, without reading them."""

    @abstractmethod
    def load(self) -> None:
        """Read the problems; call it before :meth:`holds`."""

    @abstractmethod
    def holds(self, prompt: str) -> str | None:
        """What holds ``prompt`` out; None where training may use it."""


@dataclass
class HeldOutExamples(HeldOut):
    """The prompts of examples, e.g. those of a benchmark's dev and test files.

    Attributes:
        data: the examples to hold out, with ``prompt`` or ``messages``; other columns are ignored.
    """

    data: Examples
    _hashes: set[bytes] = field(default_factory=set, init=False, repr=False)

    def check(self) -> None:
        """Check the examples."""
        self.data.check()

    def load(self) -> None:
        examples = self.data.load()
        self._hashes = {_hash(prompt) for example in examples for prompt in prompts_of(example)}
        if not self._hashes:
            raise DataError(
                f"held_out: {type(self.data).__name__} has the columns {examples.column_names} but no prompts; name "
                "the column that holds them, e.g. columns: {prompt: question}"
            )

    def holds(self, prompt: str) -> str | None:
        if _hash(prompt) not in self._hashes:
            return None
        return f"{type(self.data).__name__} {vars(self.data)}"


class LabHeldOut(HeldOut):
    """Every dev and test problem of the lab; a problem's split follows from the problem itself."""

    def load(self) -> None:
        """Nothing to read."""

    def holds(self, prompt: str) -> str | None:
        try:
            parse_prompt(prompt.strip())
        except DataError:
            return None
        split = split_of(prompt.strip())
        return None if split == "train" else f"the lab's {split} split"


def check_held_out(examples: Dataset, held_out: Sequence[HeldOut]) -> None:
    """Refuse examples of which any prompt is held out.

    Prompts are compared in Unicode NFKC, ignoring case, with each run of white space as one space. Of a conversation
    each message of the user counts as a prompt, and so do all of them together.

    Raises:
        DataError: naming the example, its prompt, and what holds it out.
    """
    for source in held_out:
        source.load()
    for index, example in enumerate(examples):
        for prompt in prompts_of(example):
            for source in held_out:
                if where := source.holds(prompt):
                    raise DataError(
                        f"data: example {index} has the prompt {prompt[:200]!r}, which is held out by {where}; remove "
                        "it from the training data"
                    )


def prompts_of(example: Mapping[str, Any]) -> Iterator[str]:
    """The prompts of one example."""
    for column in ("prompt", "messages", "chosen"):
        value = example.get(column)
        if isinstance(value, str) and column == "prompt":
            yield value
        elif isinstance(value, list):
            questions = [str(message.get("content")) for message in value if message.get("role") == "user"]
            yield from questions
            if len(questions) > 1:
                yield "\n".join(questions)


def _hash(prompt: str) -> bytes:
    text = " ".join(unicodedata.normalize("NFKC", prompt).casefold().split())
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
