"""pass@k: the probability that at least one of k samples solves a problem."""

from collections.abc import Sequence
from math import comb

from remit_lit.errors import ConfigError


def pass_at_k(samples: int, solved: int, k: int) -> float:
    """Unbiased estimate for one problem, 1 - C(n - c, k) / C(n, k) (Chen et al. 2021, arXiv:2107.03374, eq. 1).

    Args:
        samples: n, drawn for the problem.
        solved: c, of them right.
        k: at most ``samples``.

    Raises:
        ConfigError: not 0 <= solved <= samples, or not 1 <= k <= samples.
    """
    if not 1 <= k <= samples or not 0 <= solved <= samples:
        raise ConfigError(f"pass@k: got k={k} and {solved} solved of {samples} samples; k is 1 to the samples drawn")
    return 1.0 - comb(samples - solved, k) / comb(samples, k)


def mean_pass_at_k(outcomes: Sequence[Sequence[bool]], k: int) -> float:
    """Mean over problems; ``outcomes`` are those of each problem's samples, [problems][samples].

    Raises:
        ConfigError: there are no problems, or fewer than ``k`` samples of one.
    """
    if not outcomes:
        raise ConfigError("pass@k: got no problems; give at least one")
    return sum(pass_at_k(len(problem), sum(problem), k) for problem in outcomes) / len(outcomes)
