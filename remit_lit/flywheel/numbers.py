"""Numbers for seeds of documents, hashed so that those of two rounds or seeds are never the same."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Literal

from remit_lit.errors import ConfigError

Key = Literal["seed", "round"]

_BITS = 31  # what every library takes for a seed


def hashed_number(name: str, **key: int) -> int:
    """A number that depends on nothing but a name and what it is of, e.g. ``seed=3, round=1``."""
    digest = hashlib.sha256(json.dumps([name, *sorted(key.items(), reverse=True)]).encode()).digest()
    return int.from_bytes(digest[:4]) >> (32 - _BITS)


def numbers_by_name(hashed: Mapping[str, Sequence[Key]], seeds: Sequence[int], rounds: int) -> dict[str, list[int]]:
    """The number of each seed, by name; one that is of the round too is named as :func:`name_in` says.

    Raises:
        ConfigError: two have the same number.
    """
    numbers: dict[str, list[int]] = {}
    taken: dict[int, str] = {}
    for name, of in hashed.items():
        for round_ in range(rounds + 1) if "round" in of else [0]:
            values = []
            for seed in seeds if "seed" in of else seeds[:1]:
                key = {what: value for what, value in (("seed", seed), ("round", round_)) if what in of}
                values.append(hashed_number(name, **key))
                which = f"{name} ({', '.join(f'{what} {value}' for what, value in key.items())})"
                if values[-1] in taken:
                    raise ConfigError(
                        f"hashed: {taken[values[-1]]} and {which} have the same number; give another name or seed"
                    )
                taken[values[-1]] = which
            numbers[name_in(name, of, round_)] = values if "seed" in of else values * len(seeds)
    return numbers


def name_in(name: str, of: Sequence[Key], round_: int) -> str:
    """What a number is called in the table of all rounds."""
    return f"{name}_{round_}" if "round" in of else name
