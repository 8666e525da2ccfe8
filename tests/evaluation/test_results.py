"""pass@k against an enumeration of all choices of k samples."""

from itertools import combinations

import pytest

from remit_lit.errors import ConfigError
from remit_lit.evaluation.results import pass_at_k


@pytest.mark.parametrize("samples", [1, 2, 5, 8])
def test_it_is_the_share_of_choices_with_a_solved_sample(samples: int) -> None:
    for solved in range(samples + 1):
        outcomes = [index < solved for index in range(samples)]
        for k in range(1, samples + 1):
            choices = [any(choice) for choice in combinations(outcomes, k)]
            assert pass_at_k(samples, solved, k) == pytest.approx(sum(choices) / len(choices), abs=1e-12)


def test_large_counts_neither_overflow_nor_lose_digits() -> None:
    # Of 10,000 samples one is solved: a choice of k has it with probability k / n.
    assert pass_at_k(10_000, 1, 5_000) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize(("samples", "solved", "k"), [(4, 1, 0), (4, 1, 5), (4, 5, 1), (4, -1, 1)])
def test_impossible_counts_are_refused(samples: int, solved: int, k: int) -> None:
    with pytest.raises(ConfigError, match=r"pass@k"):
        pass_at_k(samples, solved, k)
