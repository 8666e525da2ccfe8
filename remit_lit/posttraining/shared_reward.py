"""A reward in RLVR, where each rank judges its own completions: failures and statistics are those of all ranks."""

from collections.abc import Callable, Sequence
from itertools import groupby
from statistics import fmean, pstdev
from typing import Any

from remit_lit.posttraining.reward_guard import Guard
from remit_lit.runs.ranks import on_all


class SharedReward:
    """A guarded reward that TRL's trainer calls on every rank at once, each time with as many completions.

    What ends the run on one rank ends it on all, with the same message.

    Args:
        guard: the reward.
        rewards: how many rewards the run has.

    Attributes:
        failures: how many failures there were on all ranks.
    """

    def __init__(self, guard: Guard, rewards: int = 1) -> None:
        self.guard, self.rewards = guard, rewards
        self.__name__ = guard.__name__
        self.failures = 0

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """This rank's rewards, see :class:`Guard`.

        ``log_metric`` gets the number of failures as reward_failures, and the mean standard deviation within the groups
        of samples of one prompt, which may lie on several ranks, as rewards/NAME/group_std.

        Raises:
            DataError: the function failed on some rank, and ``on_failure`` is stop.
            ConfigError: the function raised it on some rank, since a setting rather than a sample is wrong.
        """
        rewards: list[float | None] = []

        def judge() -> tuple[Sequence[Any], list[float | None], int, float]:
            before = self.guard.failures
            rewards.extend(self.guard(prompts, completions, log_metric, **columns))
            return prompts, rewards, self.guard.failures - before, self.guard.lowest

        parts = on_all(judge)
        failures = sum(failed for _, _, failed, _ in parts)
        self.failures += failures
        self.guard.lowest = min(lowest for _, _, _, lowest in parts)
        if log_metric:
            # TRL averages what is logged under a name, over ranks and rewards; this is to be their sum.
            log_metric("reward_failures", failures * self.rewards)
            pairs = [pair for asked, got, _, _ in parts for pair in zip(asked, got, strict=True)]
            log_metric(f"rewards/{self.__name__}/group_std", _group_spread(pairs))
        return rewards


def _group_spread(rewarded: Sequence[tuple[Any, float | None]]) -> float:
    """Standard deviation of the rewards of each run of equal prompts, averaged over the runs."""
    spreads = []
    for _, group in groupby(rewarded, key=lambda pair: pair[0]):
        known = [value for _, value in group if value is not None]
        spreads.append(pstdev(known) if known else 0.0)
    return fmean(spreads)
