"""How many runs a comparison needs, and what power the runs at hand have: of a paired t test over runs."""

import math

from scipy import stats

LEVEL, WANTED = 0.05, 0.8
_MOST = 10_000


def power(effect: float, sd: float, runs: int) -> float:
    """The chance that a two-sided paired t test finds ``effect`` at 5 %.

    Args:
        effect: the true mean of the differences, not 0.
        sd: standard deviation of the differences over runs, in the same units; above 0.
        runs: how many differences there are; with fewer than two nothing can be found.
    """
    if runs < 2:
        return 0.0
    critical, centre = stats.t.ppf(1 - LEVEL / 2, runs - 1), abs(effect) / sd * math.sqrt(runs)
    # The other tail would be a finding in the wrong direction.
    return float(stats.nct.sf(critical, runs - 1, centre))


def runs_needed(effect: float, sd: float) -> int | None:
    """The fewest runs that find ``effect`` with a chance of 80 %; None where 10,000 do not."""
    low, high = 1, 2
    while power(effect, sd, high) < WANTED:
        if high >= _MOST:
            return None
        low, high = high, min(2 * high, _MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, sd, middle) >= WANTED else (middle, high)
    return high
