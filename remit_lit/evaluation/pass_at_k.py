"""pass@k: the probability that at least one of k samples solves a problem."""

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
