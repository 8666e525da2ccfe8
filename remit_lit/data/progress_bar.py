"""A progress bar with rate and time left."""

import sys
from typing import Any

from tqdm import tqdm


def progress(what: str, total: int, unit: str, *, disable: bool = False) -> Any:
    """A bar over ``total`` units; where the output is no terminal, it is written every half minute only."""
    interval = 0.1 if sys.stderr.isatty() else 30.0
    return tqdm(
        desc=what,
        total=total,
        unit=unit,
        unit_scale=True,
        disable=disable,
        mininterval=interval,
        maxinterval=max(10.0, interval),
    )
