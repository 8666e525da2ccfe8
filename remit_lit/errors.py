"""Errors that a user can mend: each names the field, what it got, and what would be right."""

import difflib
import math
from collections.abc import Iterable


class ConfigError(ValueError):
    """A setting that cannot work. The command line prints it without a traceback and exits with 2.

    Args:
        message: beginning with the field's dotted path.
        beside: dotted path of another field that the mistake depends on: the command line says where that is set, too.
    """

    def __init__(self, message: str = "", beside: str = "") -> None:
        super().__init__(message)
        self.beside = beside


class DataError(ValueError):
    """Data on disk that is malformed, incomplete, or does not belong to this run."""


class NonFiniteError(ArithmeticError):
    """A loss, gradient or score that is NaN or infinite; names the step and the rows."""


class Preempted(Exception):  # noqa: N818
    """The scheduler ends the job: a checkpoint was written, and the command line exits with 75 ("try again")."""

    exit_code = 75


def did_you_mean(given: str, known: Iterable[str], at_most: int = 1) -> str:
    """The names that come nearest to ``given``, as a question with a space after it; empty where none comes near."""
    near = difflib.get_close_matches(given, list(dict.fromkeys(known)), n=at_most)
    return f"did you mean {' or '.join(near)}? " if near else ""


def not_among(given: str | None, choices: Iterable[str]) -> str:
    """What was got and what would be right, where a name is none of the choices."""
    known = list(choices)
    return (
        f"got {given!r}; {did_you_mean(str(given), known)}give one of {', '.join(known) or 'none, for there is none'}"
    )


def require_at_least(field: str, value: float | None, least: float, *, or_null: bool = False) -> None:
    """Refuse ``value`` below ``least``; None passes, and with ``or_null`` the message offers it.

    Raises:
        ConfigError: naming ``field``, the value, and the least.
    """
    if value is not None and value < least:
        raise ConfigError(f"{field}: got {value}; give at least {least}{', or null' if or_null else ''}")


def require_range(field: str, value: float, low: float, high: float, *, include_low: bool = False) -> None:
    """Refuse ``value`` outside ``(low, high]`` (``[low, high]`` with ``include_low``).

    Raises:
        ConfigError: naming ``field``, the value, and the interval.
    """
    if not math.isfinite(value) or not (low <= value if include_low else low < value) or not value <= high:
        opening = "[" if include_low else "("
        raise ConfigError(f"{field}: got {value}; give a number in {opening}{low}, {high}]")
