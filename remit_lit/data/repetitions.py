"""Rows that repeat a few tokens over and over, as OLMo's ``instance_filter`` finds them."""

from dataclasses import dataclass

import numpy as np

from remit_lit.errors import ConfigError


@dataclass(frozen=True)
class RepetitionFilter:
    """Rows in which a run of a few tokens repeats many times do not count in the loss (allenai/OLMo, olmo/data).

    Attributes:
        min_period: tokens of the shortest run that is looked for; OLMo's 1.
        max_period: tokens of the longest; OLMo's 13.
        max_count: times in a row from which on a repetition masks its row; OLMo's 32.

    Raises:
        ConfigError: a number is out of range.
    """

    min_period: int = 1
    max_period: int = 13
    max_count: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.min_period <= self.max_period:
            raise ConfigError(
                f"data.mask_repetitions: got periods of {self.min_period} to {self.max_period}; give 1 or more, in "
                "order"
            )
        if self.max_count < 2:
            raise ConfigError(f"data.mask_repetitions.max_count: got {self.max_count}; give at least 2")

    def repeats(self, tokens: np.ndarray) -> bool:
        """Whether a row, [time], holds such a repetition."""
        for period in range(self.min_period, min(self.max_period, len(tokens) - 1) + 1):
            # `count` times in a row: each token but those of the first time equals the one a period before.
            breaks = np.flatnonzero(tokens[period:] != tokens[:-period])
            longest = np.diff(np.concatenate([[-1], breaks, [len(tokens) - period]])).max() - 1
            if longest >= (self.max_count - 1) * period:
                return True
        return False
