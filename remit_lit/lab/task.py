"""The lab's reasoning task: a chain of five steps, each a look-up in its operator's table, with a verifier.

A document is a question, a trace and an answer, 31 characters in all::

    Q:3A2B5A0D1A4=A21B54A05D10A42#2

A start value and five (operator, operand) pairs stand between ``Q:`` and ``=``; the trace repeats each pair and appends
the running result; ``#`` introduces the answer. Values are 0 to 5. An operator is a table of 6 x 6 values, drawn once
for all: a skill that is learned entry by entry, and even one of a step's two inputs tells something of its result, so
that accuracy rises gradually and not at one steep moment. Operators come as often as one over their rank, so that
some skills are common and some rare.
"""

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Literal, get_args

from remit_lit.errors import ConfigError, DataError, not_among

Split = Literal["train", "dev", "test"]

DEV_PROBLEMS = 1000
"""Problems of the dev split, on which the recipe's budgets were chosen."""
TEST_PROBLEMS = 2000
"""Problems of the test split, on which results are reported."""

STEPS = 5
VALUES = 6
OPERATORS = "ABCDEF"
"""From the most frequent to the rarest."""
FREQUENCIES = tuple(1 / rank for rank in range(1, len(OPERATORS) + 1))
"""Of the operators, not normalised: 41 % of all steps are of A, 7 % of F."""
MISREAD_PROBABILITY = 0.5
_HELD_OUT_PERCENT = 10  # of all texts for dev, and as many for test

_STEP = f"[{OPERATORS}][0-{VALUES - 1}]"
_VALUE = f"[0-{VALUES - 1}]"
_DOCUMENT = re.compile(rf"Q:({_VALUE})((?:{_STEP}){{{STEPS}}})=((?:{_STEP}{_VALUE}){{{STEPS}}})#({_VALUE})")
_COMPLETION = re.compile(rf"[^#]*#({_VALUE})")


def _tables() -> dict[str, tuple[tuple[int, ...], ...]]:
    rng = random.Random("operators")
    return {
        operator: tuple(tuple(rng.randrange(VALUES) for _ in range(VALUES)) for _ in range(VALUES))
        for operator in OPERATORS
    }


TABLES = _tables()
"""``TABLES[operator][value][operand]`` is the result, whatever the seed of a run."""


class TokenKind(IntEnum):
    """What a character of a document is; the loss of each kind is reported by itself."""

    QUESTION = 0  # of a problem, and the signs that a trace begins and ends with
    CORRECT_RESULT = 1  # a running result as in the true chain
    WRONG_RESULT = 2  # one that differs from it
    NOISE = 3  # any character of a uniformly random document
    OPERAND = 4  # an operator or operand that the trace repeats
    ANSWER = 5  # the last running result once more, right or wrong
    WEB = 6  # any character of a web-like document


@dataclass(frozen=True)
class Problem:
    """A start value and ``STEPS`` (operator, operand) pairs, applied from left to right."""

    start: int
    steps: tuple[tuple[str, int], ...]

    @property
    def prompt(self) -> str:
        """The question with its closing ``=``: what a model is asked to continue."""
        return f"Q:{self.start}" + "".join(f"{operator}{operand}" for operator, operand in self.steps) + "="

    @property
    def results(self) -> tuple[int, ...]:
        """The true running result after each step."""
        value, results = self.start, []
        for operator, operand in self.steps:
            value = TABLES[operator][value][operand]
            results.append(value)
        return tuple(results)

    @property
    def answer(self) -> int:
        return self.results[-1]


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
        raise ConfigError(f"split: {not_among(split, get_args(Split))}")


def sample_problem(rng: random.Random, split: Split, operators: str = OPERATORS) -> Problem:
    """Draw a problem of ``split``: uniform values, and some of ``operators`` by their ``FREQUENCIES``."""
    frequencies = [FREQUENCIES[OPERATORS.index(operator)] for operator in operators]
    while True:
        drawn = rng.choices(operators, frequencies, k=STEPS)
        problem = Problem(rng.randrange(VALUES), tuple((operator, rng.randrange(VALUES)) for operator in drawn))
        if split_of(problem.prompt) == split:
            return problem


def check_problems(field: str, count: int, split: str, operators: str) -> None:
    """Refuse a split or operators that are unknown, and a ``count`` that would take long to draw.

    Raises:
        ConfigError: naming the field, what it got and what would be right.
    """
    check_split(split)
    if not operators or len(set(operators)) < len(operators) or not set(operators) <= set(OPERATORS):
        raise ConfigError(f"operators: got {operators!r}; give some of the letters {OPERATORS}, each once")
    percent = 100 - 2 * _HELD_OUT_PERCENT if split == "train" else _HELD_OUT_PERCENT
    most = VALUES * (len(operators) * VALUES) ** STEPS * percent // 100 // 2
    if not 1 <= count <= most:
        raise ConfigError(f"{field}: got {count}; give 1 to {most}, half of the problems that there are")


def sample_problems(count: int, split: Split, seed: int = 0, operators: str = OPERATORS) -> list[Problem]:
    """``count`` distinct problems of ``split`` with ``operators`` alone, the same for the same ``seed``.

    Raises:
        ConfigError: ``count`` is below 1 or more than half of what there is, or ``split`` or an operator is unknown.
    """
    check_problems("count", count, split, operators)
    return list(_sampled(count, split, seed, operators))


@cache  # an evaluation in training asks for the same problems at each point: a third of its time
def _sampled(count: int, split: Split, seed: int, operators: str) -> tuple[Problem, ...]:
    rng = random.Random(f"problems/{split}/{seed}")
    problems: dict[Problem, None] = {}
    while len(problems) < count:
        problems.setdefault(sample_problem(rng, split, operators))
    return tuple(problems)


def correct_completion(problem: Problem) -> str:
    """The trace and answer that solve ``problem``."""
    return _render(problem, problem.results)


def misconception_completion(problem: Problem, rng: random.Random) -> str:
    """A systematic mistake: steps read their operator as the first with ``MISREAD_PROBABILITY``, and go on from there.

    The operator is written as the problem has it; only the running results, and so the answer, may be wrong.
    """
    value, results = problem.start, []
    for operator, operand in problem.steps:
        value = TABLES[OPERATORS[0] if rng.random() < MISREAD_PROBABILITY else operator][value][operand]
        results.append(value)
    return _render(problem, tuple(results))


def _render(problem: Problem, results: tuple[int, ...]) -> str:
    trace = "".join(
        f"{operator}{operand}{result}" for (operator, operand), result in zip(problem.steps, results, strict=True)
    )
    return f"{trace}#{results[-1]}"


def parse_prompt(prompt: str) -> Problem:
    """The problem that a prompt asks.

    Raises:
        DataError: ``prompt`` is not a question of this task.
    """
    if not re.fullmatch(rf"Q:{_VALUE}(?:{_STEP}){{{STEPS}}}=", prompt):
        raise DataError(f"not a question of the lab's task: {prompt!r}; one looks like 'Q:3A2B5A0D1A4='")
    pairs = prompt[3:-1]
    return Problem(int(prompt[2]), tuple((pairs[i], int(pairs[i + 1])) for i in range(0, 2 * STEPS, 2)))


def is_correct(problem: Problem, completion: str) -> bool:
    """The verifier: up to the first newline, ``completion`` ends in ``#`` and the answer. The trace is not judged."""
    match = _COMPLETION.fullmatch(completion.split("\n", 1)[0])
    return match is not None and int(match[1]) == problem.answer


RESULT_PLACES = tuple(3 * step + 2 for step in range(STEPS))
"""Where in a completion the running results stand."""


def token_kinds(document: str) -> list[TokenKind]:
    """The kind of each character of a task document: results right or wrong by the *true* chain.

    A result that follows correctly from a wrong one is wrong.

    Raises:
        DataError: ``document`` is not a complete task document.
    """
    if not _DOCUMENT.fullmatch(document):
        raise DataError(f"not a document of the lab's task: {document!r}")
    trace_at = document.index("=") + 1
    results = parse_prompt(document[:trace_at]).results
    kinds = [TokenKind.QUESTION] * trace_at + [TokenKind.OPERAND] * (3 * STEPS) + [TokenKind.QUESTION, TokenKind.ANSWER]
    for place, result in zip(RESULT_PLACES, results, strict=True):
        right = document[trace_at + place] == str(result)
        kinds[trace_at + place] = TokenKind.CORRECT_RESULT if right else TokenKind.WRONG_RESULT
    return kinds


def kinds_within(text: str) -> list[TokenKind | None]:
    """The kind of each character of a text in which task documents stand among others; None outside of them."""
    kinds: list[TokenKind | None] = [None] * len(text)
    for document in _DOCUMENT.finditer(text):
        kinds[document.start() : document.end()] = token_kinds(document[0])
    return kinds


def task_documents(rng: random.Random, split: Split, *, wrong: bool) -> Iterator[str]:
    """Endless task documents of ``split``, with correct or with misconception traces."""
    while True:
        problem = sample_problem(rng, split)
        completion = misconception_completion(problem, rng) if wrong else correct_completion(problem)
        yield problem.prompt + completion
