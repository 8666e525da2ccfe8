"""Rewards that tests name by their dotted paths, good ones and faulty ones."""

import json
import os
import time
from pathlib import Path
from typing import Any

from remit_lit.errors import ConfigError


def has_digit(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
    """1 where the completion starts with a digit: about a third of what an untrained model writes."""
    return [float(str(completion)[:1].isdigit()) for completion in completions]


def noted(prompts: list[Any], completions: list[Any], trainer_state: Any = None, **_: Any) -> list[float]:
    """As has_digit; each call is kept in the folder NOTES, in a file of the rank, with the step if there is one."""
    if os.environ.get("FAILS_ON_RANK") == os.environ["RANK"] and trainer_state is not None:
        raise RuntimeError(f"rank {os.environ['RANK']} is broken")
    rewards = has_digit(prompts, completions)
    step = None if trainer_state is None else trainer_state.global_step
    with open(Path(os.environ["NOTES"], f"rank-{os.environ['RANK']}.jsonl"), "a") as notes:
        notes.write(json.dumps({"step": step, "prompt": prompts[0], "reward": rewards[0]}) + "\n")
    return rewards


def never(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
    return [0.0] * len(completions)


def fails_on_letters(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
    if any(str(completion)[:1].isalpha() for completion in completions):
        raise RuntimeError("a letter")
    return has_digit(prompts, completions)


def raises(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
    raise RuntimeError("broken")


def gives_nan(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
    return [float("nan")]


def gives_infinity(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
    return [float("inf")]


def gives_two(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
    return [1.0, 1.0]


def gives_text(prompts: list[Any], completions: list[Any], **_: Any) -> list[Any]:
    return ["much"]


def hangs(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
    while True:
        pass


def as_told(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
    return hangs(prompts, completions) if completions == ["hang"] else [float(completions[0])]


def sleeps_and_swallows(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
    for _attempt in range(3):
        try:
            time.sleep(60)
        except BaseException:
            continue
    return [1.0]


def wrong_setting(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
    raise ConfigError("field: got this; give that")


def by_column(prompts: list[Any], completions: list[Any], wanted: list[str], **_: Any) -> list[float | None]:
    return [None if want == "skip" else float(want == text) for want, text in zip(wanted, completions, strict=True)]


async def later(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
    return [1.0]


NOT_A_FUNCTION = 3
