"""What jobs of the shipped studies took on one machine, for kinds of which none has run here yet."""

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from remit_lit.files import write_whole

_FILE = Path(__file__).with_suffix(".json")
_LEAST_WORDS = 2  # the verb and its first config, or field


@dataclass(frozen=True)
class Calibration:
    """CPU seconds of jobs: what a job takes at least where it has a core of its own.

    Attributes:
        machine: that ran them.
        date: of the last of them.
        version: of this package.
        cpu_seconds: by kind, the median of its jobs.
    """

    machine: str
    date: str
    version: str
    cpu_seconds: Mapping[str, float]

    @property
    def source(self) -> str:
        """Where the seconds are from, for people."""
        return f"CPU seconds of such jobs on {self.machine}, {self.date}"

    def of(self, kind: str) -> float | None:
        """CPU seconds of a job of this kind, or of kinds that begin alike; None where none does.

        Kinds begin alike with the same verb and the same first config, or first field. Those that share most with it
        count, by their median.
        """
        if kind in self.cpu_seconds:
            return self.cpu_seconds[kind]
        words = kind.split()
        for end in range(len(words), _LEAST_WORDS - 1, -1):
            alike = [its for other, its in self.cpu_seconds.items() if other.split()[:end] == words[:end]]
            if alike:
                return statistics.median(alike)
        return None

    def write(self, path: Path = _FILE) -> None:
        """Write it as JSON; without a path, as the one that comes with the package."""
        write_whole(path, json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")


@cache
def shipped() -> Calibration:
    """The one that comes with the package, made by ``python -m remit_lit.recipes seconds``."""
    return Calibration(**json.loads(_FILE.read_text()))
