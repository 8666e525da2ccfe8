"""Documents of numbered shards, whose readings leave a trace."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from remit_lit.data.sources import Source
from tests.data.texts import corpus


class Logged(Source):
    """A line in ``readings`` for each shard that is read: the shard, and the process.

    While ``directory`` holds a file ``hold-SHARD``, the end of that shard does not come.
    """

    def __init__(self, directory: str, shards: int = 8, documents: int = 40) -> None:
        self.directory, self.number, self.documents = directory, shards, documents

    def shards(self) -> list[str]:
        return [str(shard) for shard in range(self.number)]

    def files_read(self) -> list[str]:
        return [str(path) for path in sorted(Path(self.directory).glob("*.source"))]

    def read(self, shard: str) -> Iterator[str]:
        with Path(self.directory, "readings").open("a") as readings:
            readings.write(f"{shard} {os.getpid()}\n")
        yield from corpus(f"shard {shard} ", self.documents)
        while Path(self.directory, f"hold-{shard}").exists():
            time.sleep(0.02)


class Unsendable(Logged):
    """Has what no other process can be sent."""

    def __init__(self, directory: str, shards: int = 8) -> None:
        super().__init__(directory, shards)
        self.lock = threading.Lock()


def readings(directory: Path) -> list[tuple[str, str]]:
    """Shard and process of each reading, in order."""
    path = directory / "readings"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(shard, process) for shard, process in (line.split() for line in lines)]
