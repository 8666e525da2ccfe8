"""A preparation that stops at a chosen point and waits there to be killed."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import remit_lit.data.prepare as module
from remit_lit.data.manifest import write_manifest
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.sources import Source


class Sleeper(Source):
    """Documents of three shards; before the end of the last one it may touch a file and sleep."""

    def __init__(self, reached: str, *, sleeps: bool) -> None:
        self.reached, self.sleeps = reached, sleeps

    def shards(self) -> list[str]:
        return ["0", "1", "2"]

    def read(self, shard: str) -> Iterator[str]:
        yield from [f"{shard} {i} abcdefgh" for i in range(2000)]
        if self.sleeps and shard == "2":
            self.sleep()

    def sleep(self, *_: Any) -> None:
        Path(self.reached).touch()
        time.sleep(600)


def prepare_and_stop(directory: Path, stage: str, num_workers: int, tokenizer: Path) -> None:
    """Prepare rows in ``directory``, where a file ``reached`` appears at the stage: "tokenising" or "packed"."""
    source = Sleeper(str(directory / "reached"), sleeps=stage == "tokenising")
    settings = PrepareSettings(str(tokenizer), {"web": source}, sequence_length=32, num_workers=num_workers)
    with patch.object(module, "write_manifest", source.sleep if stage == "packed" else write_manifest):
        module.prepare(directory / "rows", settings)
