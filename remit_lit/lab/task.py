"""The lab's reasoning task: five steps of arithmetic modulo 10, written out, with a verifier.

A document is a question, a trace and an answer, 31 characters in all::

    Q:8-5*6+9*7+6=-53*68+97*79+65#5

A start digit and five (operator, digit) pairs stand between ``Q:`` and ``=``; the trace repeats each pair and appends
the running result modulo 10; ``#`` introduces the answer. The last operator is never ``*``, so that every answer is
equally likely and a guess is right one time in ten. Multiplication is there because a chain of additions and
subtractions alone gives a model no signal from any single input, and small models then never leave chance.
"""

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Literal, get_args

from remit_lit.errors import ConfigError, DataError

Split = Literal["train", "dev", "test"]

DEV_PROBLEMS = 1000
"""Problems of the dev split, on which the recipe's budgets were chosen."""
TEST_PROBLEMS = 2000
"""Problems of the test split, on which results are reported."""

STEPS = 5
OPERATORS = "+-*"
MISREAD_PROBABILITY = 0.5
_HELD_OUT_PERCENT = 10  # of all texts for dev, and as many for test

_STEP = r"[+\-*]\d"
_DOCUMENT = re.compile(rf"Q:(\d)((?:{_STEP}){{{STEPS}}})=((?:{_STEP}\d){{{STEPS}}})#(\d)")
_COMPLETION = re.compile(r"[^#]*#(\d)")


class TokenKind(IntEnum):
    """What a character of a document is; the loss of each kind is reported by itself."""

    OTHER = 0
    CORRECT_RESULT = 1  # a running result or answer as in the true chain
    WRONG_RESULT = 2  # one that differs from it
    NOISE = 3  # any character of a uniformly random document


@dataclass(frozen=True)
class Problem:
    """A start digit and ``STEPS`` (operator, digit) pairs, applied from left to right modulo 10."""

    start: int
    steps: tuple[tuple[str, int], ...]

    @property
    def prompt(self) -> str:
        """The question with its closing ``=``: what a model is asked to continue."""
        return f"Q:{self.start}" + "".join(f"{operator}{digit}" for operator, digit in self.steps) + "="

    @property
    def results(self) -> tuple[int, ...]:
        """The true running result after each step, each in 0..9."""
        value, results = self.start, []
        for operator, digit in self.steps:
            value = _apply(value, operator, digit)
            results.append(value)
        return tuple(results)

    @property
    def answer(self) -> int:
        return self.results[-1]


def _apply(value: int, operator: str, digit: int) -> int:
    if operator == "+":
        return (value + digit) % 10
    if operator == "-":
        return (value - digit) % 10
    return value * digit % 10


def split_of(text: str) -> Split:
    """The split that a prompt (or a document without one) belongs to: a function of its hash alone.

    So the three splits cannot share a problem, whatever the seeds they are drawn with.
    """
    bucket = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % 100
    if bucket < _HELD_OUT_PERCENT:
        return "test"
    return "dev" if bucket < 2 * _HELD_OUT_PERCENT else "train"


def check_split(split: str) -> None:
    """Raise ConfigError unless ``split`` is train, dev or test."""
    if split not in get_args(Split):
        raise ConfigError(f"split: got {split!r}; give one of {', '.join(get_args(Split))}")


def sample_problem(rng: random.Random, split: Split) -> Problem:
    """Draw a problem of ``split``: uniform digits and operators, the last operator ``+`` or ``-``."""
    while True:
        operators = [rng.choice(OPERATORS) for _ in range(STEPS - 1)] + [rng.choice("+-")]
        problem = Problem(rng.randrange(10), tuple((operator, rng.randrange(10)) for operator in operators))
        if split_of(problem.prompt) == split:
            return problem


def sample_problems(count: int, split: Split, seed: int = 0) -> list[Problem]:
    """``count`` distinct problems of ``split``, the same for the same ``seed``.

    Raises:
        ConfigError: ``count`` is below 1, or ``split`` is unknown.
    """
    if count < 1:
        raise ConfigError(f"count: got {count}; give at least 1")
    check_split(split)
    return list(_sampled(count, split, seed))


@cache  # an evaluation in training asks for the same problems at each point: a third of its time
def _sampled(count: int, split: Split, seed: int) -> tuple[Problem, ...]:
    rng = random.Random(f"problems/{split}/{seed}")
    problems: dict[Problem, None] = {}
    while len(problems) < count:
        problems.setdefault(sample_problem(rng, split))
    return tuple(problems)


def correct_completion(problem: Problem) -> str:
    """The trace and answer that solve ``problem``."""
    return _render(problem, problem.results)


def misconception_completion(problem: Problem, rng: random.Random) -> str:
    """A systematic mistake: each step reads its operator as ``+`` with ``MISREAD_PROBABILITY``, and goes on from there.

    The operator is written as the problem has it; only the running results, and so the answer, may be wrong.
    """
    value, results = problem.start, []
    for operator, digit in problem.steps:
        value = _apply(value, "+" if rng.random() < MISREAD_PROBABILITY else operator, digit)
        results.append(value)
    return _render(problem, tuple(results))


def _render(problem: Problem, results: tuple[int, ...]) -> str:
    trace = "".join(
        f"{operator}{digit}{result}" for (operator, digit), result in zip(problem.steps, results, strict=True)
    )
    return f"{trace}#{results[-1]}"


def parse_prompt(prompt: str) -> Problem:
    """The problem that a prompt asks.

    Raises:
        DataError: ``prompt`` is not a question of this task.
    """
    if not re.fullmatch(rf"Q:\d(?:{_STEP}){{{STEPS}}}=", prompt):
        raise DataError(f"not a question of the lab's task: {prompt!r}; one looks like 'Q:8-5*6+9*7+6='")
    pairs = prompt[3:-1]
    return Problem(int(prompt[2]), tuple((pairs[i], int(pairs[i + 1])) for i in range(0, 2 * STEPS, 2)))


def is_correct(problem: Problem, completion: str) -> bool:
    """The verifier: up to the first newline, ``completion`` ends in ``#`` and the answer. The trace is not judged."""
    match = _COMPLETION.fullmatch(completion.split("\n", 1)[0])
    return match is not None and int(match[1]) == problem.answer


def token_kinds(document: str) -> list[TokenKind]:
    """The kind of each character of a task document: results and answer right or wrong by the *true* chain.

    A result that follows correctly from a wrong one is wrong.

    Raises:
        DataError: ``document`` is not a complete task document.
    """
    if not _DOCUMENT.fullmatch(document):
        raise DataError(f"not a document of the lab's task: {document!r}")
    trace_at = document.index("=") + 1
    results = parse_prompt(document[:trace_at]).results
    kinds = [TokenKind.OTHER] * len(document)
    places = [trace_at + 3 * step + 2 for step in range(STEPS)] + [len(document) - 1]
    for place, result in zip(places, (*results, results[-1]), strict=True):
        kinds[place] = TokenKind.CORRECT_RESULT if document[place] == str(result) else TokenKind.WRONG_RESULT
    return kinds


def task_documents(rng: random.Random, split: Split, *, wrong: bool) -> Iterator[str]:
    """Endless task documents of ``split``, with correct or with misconception traces."""
    while True:
        problem = sample_problem(rng, split)
        completion = misconception_completion(problem, rng) if wrong else correct_completion(problem)
        yield problem.prompt + completion
