"""Reward functions by dotted path, behind a guard: a failing reward costs one sample, not the run."""

import importlib
import inspect
import logging
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal

from remit_lit.errors import ConfigError, DataError, require_range

Reward = Callable[..., Sequence[float | None]]
OnFailure = Literal["continue", "stop"]

_log = logging.getLogger(__name__)


class _OutOfTime(BaseException):
    """Not an Exception, so that a reward's own ``except Exception`` does not swallow it."""


class Guard:
    """A reward function with TRL's signature, called for one completion at a time with a time limit.

    So a failure costs the reward of one sample: None, which TRL leaves out of the group and gives no advantage. A
    failure is an exception, or a result that is not one finite number (or None: "not my task"). Running out of time is
    counted as one too, but gets the lowest reward: what an answer can bring about must not spare it a disadvantage.

    The limit is a timer signal (``signal.setitimer``) in the main thread: it ends Python code wherever it is, but not a
    call into C that never returns. A reward that may make such a call should make it in another process, as
    ``code_tests`` does.

    Args:
        reward: ``(prompts, completions, **columns) -> list of floats``, each argument with one item per sample.
        name: its name in metrics and messages.
        seconds: the time limit for one completion.
        on_failure: "continue" counts failures and logs the first; "stop" ends the run.

    Attributes:
        failures: how many failures there were.
        lowest: the lowest reward so far, at most 0.

    Raises:
        ConfigError: ``seconds`` is not positive.
    """

    def __init__(self, reward: Reward, name: str, seconds: float = 10.0, on_failure: OnFailure = "continue") -> None:
        require_range("reward_seconds", seconds, 0.0, 86_400.0)
        self.reward, self.seconds, self.on_failure = reward, seconds, on_failure
        self.__name__ = name
        self.failures = 0
        self.lowest = 0.0

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Rewards, None where the function failed, and ``lowest`` where its time was over.

        ``log_metric`` is for the function, which may log figures of its own.

        Raises:
            DataError: the function failed, and ``on_failure`` is stop.
            ConfigError: the function raised it, since a setting rather than a sample is wrong.
        """
        count = len(prompts)
        options = {"log_metric": log_metric} if log_metric else {}
        rewards = []
        for index, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            own = {
                name: [value[index]] if isinstance(value, list) and len(value) == count else value
                for name, value in columns.items()
            }
            rewards.append(self._reward_one(prompt, completion, {**own, **options}))
        return rewards

    def _reward_one(self, prompt: Any, completion: Any, columns: dict[str, Any]) -> float | None:
        try:
            with _time_limit(self.seconds):
                values = list(self.reward(prompts=[prompt], completions=[completion], **columns))
            if len(values) != 1:
                raise ValueError(f"returned {len(values)} rewards for one completion")
            value = None if values[0] is None else float(values[0])
            if value is not None and not math.isfinite(value):
                raise ValueError(f"returned {value}")
            self.lowest = min(self.lowest, 0.0 if value is None else value)
            return value
        except ConfigError:
            raise
        except (Exception, _OutOfTime) as error:
            self._record_failure(error, prompt, completion)
            return self.lowest if isinstance(error, _OutOfTime) else None

    def _record_failure(self, error: BaseException, prompt: Any, completion: Any) -> None:
        self.failures += 1
        reason = (
            f"no result within {self.seconds} s"
            if isinstance(error, _OutOfTime)
            else f"{type(error).__name__}: {error}"
        )
        message = (
            f"reward {self.__name__}: {reason}; prompt {str(prompt)[-200:]!r}, completion {str(completion)[:200]!r}"
        )
        if self.on_failure == "stop":
            raise DataError(
                f"{message}. Fix the reward, or only count its failures with on_reward_failure: continue"
            ) from error
        if self.failures == 1:
            _log.warning("%s. Further failures are only counted, in reward_failures", message)


def judge(reward: Guard, example: Mapping[str, Any], answers: Sequence[Any]) -> list[float | None]:
    """Rewards of several answers to one example, which has ``prompt`` and the columns that the reward reads."""
    columns = {name: [value] * len(answers) for name, value in example.items() if name not in ("prompt", "completion")}
    return reward([example["prompt"]] * len(answers), answers, None, **columns)


def load_reward(path: str, seconds: float = 10.0, on_failure: OnFailure = "continue") -> Guard:
    """The function at a dotted path, e.g. ``my_rewards.exact``, guarded.

    Raises:
        ConfigError: there is no such function, it is a coroutine, or what it needs is missing here (see ``requires``).
    """
    module, _, name = path.rpartition(".")
    try:
        reward = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"reward: no function {path!r} ({error}); give module.function, e.g. my_rewards.exact"
        ) from error
    if not callable(reward) or inspect.iscoroutinefunction(reward):
        raise ConfigError(
            f"reward: {path!r} is not a plain function (prompts, completions, **columns) -> list of floats"
        )
    missing = getattr(reward, "missing", None)
    if missing is not None and (reason := missing()):
        raise ConfigError(f"reward: {path} cannot be used here: {reason}")
    return Guard(reward, name, seconds, on_failure)


def requires(missing: Callable[[], str | None]) -> Callable[[Reward], Reward]:
    """Mark a reward with a function that says what this machine lacks for it, or None if nothing is missing."""

    def mark(reward: Reward) -> Reward:
        reward.missing = missing  # type: ignore[attr-defined]
        return reward

    return mark


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError("reward: its time limit works in the main thread only; run post-training there")

    running = True

    def stop(number: int, frame: FrameType | None) -> None:
        if running:
            raise _OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    # Again every second, for code that swallows whatever is raised in it.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        try:
            yield
        finally:
            running = False
    finally:  # apart, so that the timer is stopped even where it strikes on the way out
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
