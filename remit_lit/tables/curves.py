"""Learning curves: their mean over seeds, and how much sooner a method reaches the baseline's last value."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from remit_lit.evaluation.statistics import Interval, over_seeds

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


def mean_curve(curves: Mapping[int, Curve]) -> list[Point]:
    """Mean over seeds at the tokens where every seed was evaluated: with fewer seeds the line would jump.

    Args:
        curves: by seed.

    Raises:
        ValueError: the seeds share no evaluation, or a curve is malformed.
    """
    values = [dict(_checked(curve)) for curve in curves.values()]
    shared = sorted(set.intersection(*map(set, values))) if values else []
    if not shared:
        raise ValueError(f"curves: seeds {list(curves)} share no evaluation")
    points = []
    for tokens in shared:
        at = np.array([curve[tokens] for curve in values])
        points.append(Point(tokens, float(at.mean()), over_seeds(at) if len(at) > 1 else None))
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


def speed_up(curve: Curve, baseline: Curve, *, higher_is_better: bool) -> float | None:
    """How many times sooner ``curve`` reaches the last value of ``baseline``: the baseline's tokens over its own.

    The paper's "6x" (ReMiT, arXiv 2602.03075, figure 1). The *first* time counts for both, so that a plateau at the
    baseline's end does not count against it, and the speed-up of a curve over itself is exactly 1.

    Returns:
        None where ``curve`` never reaches it, or where either curve reaches it at 0 tokens.

    Raises:
        ValueError: see :func:`tokens_to_target`.
    """
    target = _checked(baseline)[-1][1]
    slower = tokens_to_target(baseline, target, higher_is_better=higher_is_better)
    faster = tokens_to_target(curve, target, higher_is_better=higher_is_better)
    return slower / faster if slower and faster else None


def _checked(curve: Curve) -> Curve:
    if not curve:
        raise ValueError("curve: got no evaluation")
    if any(later[0] <= earlier[0] for earlier, later in pairwise(curve)):
        raise ValueError(f"curve: tokens must ascend, got {[tokens for tokens, _ in curve]}")
    if not all(math.isfinite(value) for _, value in curve):
        raise ValueError(f"curve: got {list(curve)}; all values must be finite")
    return curve
