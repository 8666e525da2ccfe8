"""A progress bar with rate and time left."""

import sys
from typing import Any

from tqdm import tqdm

BRIEF = 5.0
"""What takes fewer seconds needs no bar, of verbs that do many such things."""


def progress(what: str, total: int | None, unit: str, *, disable: bool = False, delay: float = 0.0) -> Any:
    """A bar over ``total`` units; where the output is no terminal, it is written every half minute only.

    Args:
        what: is done.
        total: number of units; None where nobody knows.
        unit: what is counted.
        disable: show nothing.
        delay: show nothing of what is done within so many seconds.
    """
    interval = 0.1 if sys.stderr.isatty() else 30.0
    return tqdm(
        desc=what,
        total=total,
        unit=unit,
        unit_scale=True,
        disable=disable,
        delay=delay,
        mininterval=interval,
        maxinterval=max(10.0, interval),
    )
