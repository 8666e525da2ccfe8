"""Learning curves: their mean over seeds, and how much sooner a method reaches the baseline's last value."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from remit_lit.evaluation.statistics import Interval, over_seeds, over_seeds_log, support_of

Curve = Sequence[tuple[float, float]]
"""(tokens, value) of each evaluation, tokens ascending."""


class Point(NamedTuple):
    """A point of a mean curve.

    Attributes:
        tokens: seen by then.
        mean: over seeds.
        interval: over seeds; None with one seed.
    """

    tokens: float
    mean: float
    interval: Interval | None


def mean_curve(curves: Mapping[int, Curve], *, higher_is_better: bool | None = None) -> list[Point]:
    """Mean over seeds at the tokens where every seed was evaluated: with fewer seeds the line would jump.

    Args:
        curves: by seed.
        higher_is_better: of what is measured, which tells shares from losses.

    Raises:
        ValueError: the seeds share no evaluation, or a curve is malformed.
    """
    values = [dict(_checked(curve)) for curve in curves.values()]
    shared = sorted(set.intersection(*map(set, values))) if values else []
    if not shared:
        raise ValueError(f"curves: seeds {list(curves)} share no evaluation")
    support = support_of([np.array(list(curve.values())) for curve in values], higher_is_better)
    points = []
    for tokens in shared:
        at = np.array([curve[tokens] for curve in values])
        points.append(Point(tokens, float(at.mean()), over_seeds(at, support) if len(at) > 1 else None))
    return points


def tokens_to_target(curve: Curve, target: float, *, higher_is_better: bool) -> float | None:
    """Tokens at which ``curve`` first is as good as ``target``, linear between evaluations; None if it never is.

    A curve that reaches the target by its first evaluation gives the tokens of that one: it may have been earlier.
    Noise makes the first time come too early; a mean over seeds suffers less from it.

    Raises:
        ValueError: no evaluation, tokens that do not ascend, a figure that is not finite.
    """
    sign = 1.0 if higher_is_better else -1.0
    before: tuple[float, float] | None = None
    for tokens, value in _checked(curve):
        lead = sign * (value - target)
        if lead >= 0:
            if before is None:
                return tokens
            last_tokens, last_lead = before
            return last_tokens + (tokens - last_tokens) * -last_lead / (lead - last_lead)
        before = tokens, lead
    return None


class Reached(NamedTuple):
    """How a quantity that depends on reaching a target is known.

    Attributes:
        value: what it is, or its bound.
        censored: the target was never reached, so that the value is only a bound.
    """

    value: float
    censored: bool


def tokens_until(curve: Curve, target: float, *, higher_is_better: bool) -> Reached:
    """Tokens at which ``curve`` first is as good as ``target``; where it never is, all its tokens as a lower bound.

    Raises:
        ValueError: see :func:`tokens_to_target`.
    """
    tokens = tokens_to_target(curve, target, higher_is_better=higher_is_better)
    return Reached(_checked(curve)[-1][0] if tokens is None else tokens, tokens is None)


def speed_up(curve: Curve, baseline: Curve, *, higher_is_better: bool, target: float | None = None) -> Reached | None:
    """How many times sooner ``curve`` reaches the target: the baseline's tokens over its own, of one seed.

    The paper's "6x" (ReMiT, arXiv 2602.03075, figure 1). The *first* time counts for both, so that a plateau at the
    baseline's end does not count against it, and the speed-up of a curve over itself is exactly 1. A curve that never
    reaches the target has an upper bound: it would have taken more tokens than it had.

    Args:
        curve: of a method.
        baseline: of the baseline, with the same seed.
        higher_is_better: of what is measured.
        target: what is to be reached; None: the last value of ``baseline``.

    Returns:
        None where the baseline does not reach the target, or either is there before the first token.

    Raises:
        ValueError: see :func:`tokens_to_target`.
    """
    goal = _checked(baseline)[-1][1] if target is None else target
    slower = tokens_until(baseline, goal, higher_is_better=higher_is_better)
    faster = tokens_until(curve, goal, higher_is_better=higher_is_better)
    if slower.censored or not slower.value or not faster.value:
        return None
    return Reached(slower.value / faster.value, faster.censored)


class LogMean(NamedTuple):
    """A geometric mean over seeds.

    Attributes:
        value: of all seeds; with censored ones a bound on the same side as theirs.
        interval: t interval of the logarithms; None with one seed, or where a seed is censored.
        censored: number of censored seeds.
        seeds: number of all.
    """

    value: float
    interval: Interval | None
    censored: int
    seeds: int


def log_mean(reached: Sequence[Reached]) -> LogMean:
    """The geometric mean of what each seed needed, by which a figure and its table say the same of a speed-up.

    Raises:
        ValueError: no seed, or a value that is not above 0.
    """
    values, censored = np.array([seed.value for seed in reached]), sum(seed.censored for seed in reached)
    if not len(values) or not (values > 0).all():
        raise ValueError(f"reached: got {values.tolist()}; give at least one seed, all above 0")
    interval = over_seeds_log(values) if len(values) > 1 and not censored else None
    return LogMean(float(np.exp(np.log(values).mean())), interval, censored, len(values))


def speed_up_of(
    curves: Mapping[int, Curve],
    baseline: Mapping[int, Curve],
    *,
    higher_is_better: bool,
    target: float | None = None,
) -> LogMean | None:
    """The speed-up of a method, as tables and figures have it: of the seeds, each against the baseline's of that seed.

    Args:
        curves: of the method, by seed.
        baseline: of the baseline, by seed.
        higher_is_better: of what is measured.
        target: see :func:`speed_up`.

    Returns:
        None where no seed has one.
    """
    shared = [seed for seed in curves if seed in baseline]
    found = [
        speed_up(curves[seed], baseline[seed], higher_is_better=higher_is_better, target=target) for seed in shared
    ]
    known = [times for times in found if times is not None]
    return log_mean(known) if known else None


def say_speed_up(found: LogMean | None) -> str:
    """In words, for a legend."""
    if found is None:
        return "no speed-up"
    if found.censored == found.seeds:
        return "never reaches it"
    if found.censored:
        return f"speed-up ≤ {found.value:.2f}, {found.censored} of {found.seeds} never reach it"
    interval = found.interval
    return f"speed-up {found.value:.2f}" + ("" if interval is None else f" [{interval.low:.2f}, {interval.high:.2f}]")


def _checked(curve: Curve) -> Curve:
    if not curve:
        raise ValueError("curve: got no evaluation")
    if any(later[0] <= earlier[0] for earlier, later in pairwise(curve)):
        raise ValueError(f"curve: tokens must ascend, got {[tokens for tokens, _ in curve]}")
    if not all(math.isfinite(value) for _, value in curve):
        raise ValueError(f"curve: got {list(curve)}; all values must be finite")
    return curve
