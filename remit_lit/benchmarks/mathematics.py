"""Whether a mathematical answer is right, as math-verify judges it, and with every equation of it true.

math-verify compares by value, so that ``2+3`` is right where 5 is the answer, as the field judges it. Of an equation it
takes the last side for the answer, also of ``4=5``: such an answer is wrong here.
"""

import re
from collections.abc import Sequence
from typing import Any

from math_verify import parse, verify

_MARKED = ("$", "\\boxed", "\\(", "\\[")


def is_right(gold: str, answer: str, seconds: int | None = 5) -> bool | None:
    """Whether the final answer in one text is that in another; None where ``gold`` has none.

    Args:
        gold: text with the right answer, in LaTeX or plain.
        answer: text of a model.
        seconds: time limit of each step by the timer signal, which needs the main thread; None sets none.
    """
    expected = parse(gold, parsing_timeout=seconds)
    if not expected:
        return None
    parsed = parse(answer, parsing_timeout=seconds)
    if not verify(expected, parsed, timeout_seconds=seconds):
        return False
    return not _is_untrue(parsed, seconds) and not _is_untrue(_plain_equation(answer, parsed, seconds), seconds)


def _plain_equation(answer: str, parsed: Sequence[Any], seconds: int | None) -> Sequence[Any]:
    """The numeric equation whose last side is the final answer of a text without LaTeX; nothing where there is none."""
    if any(mark in answer for mark in _MARKED) or not parsed or not isinstance(parsed[-1], str):
        return []
    # Begun within a name, a call, or a number, the sides would be others than the text's.
    numeric = rf"(?<![\w(),.])((?:[\d.+\-*/()^ ]{{1,80}}=)+ *{re.escape(parsed[-1])})(?![\w.]*\d)"
    found = re.findall(numeric, answer)
    return parse(f"${found[-1].strip()}$", parsing_timeout=seconds) if found else []


def _is_untrue(parsed: Sequence[Any], seconds: int | None) -> bool:
    """Whether an answer sets two different numbers equal."""
    from sympy import Basic, Eq  # type: ignore[import-untyped]
    from sympy.core.function import AppliedUndef  # type: ignore[import-untyped]

    equations = [found for part in parsed if isinstance(part, Basic) for found in part.atoms(Eq)]
    numeric = [found for found in equations if not found.free_symbols and not found.atoms(AppliedUndef)]
    return not all(verify([found.lhs], [found.rhs], timeout_seconds=seconds) for found in numeric)
