"""Documents in memory as sources, and rows read back as bytes."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets

from remit_lit.data.settings import PrepareSettings
from remit_lit.data.sources import Source
from tests.byte_level import BYTE_EOS


class Texts(Source):
    """Given documents, ``per_shard`` in a shard."""

    def __init__(self, texts: Sequence[str | None], per_shard: int = 10) -> None:
        self.texts, self.per_shard = texts, per_shard

    def shards(self) -> list[str]:
        return [str(start) for start in range(0, len(self.texts), self.per_shard)]

    def read(self, shard: str) -> Iterator[str | None]:
        yield from self.texts[int(shard) : int(shard) + self.per_shard]


def corpus(name: str, count: int, longest: int = 40, seed: int = 0) -> list[str]:
    """Distinct documents that say which source they are of."""
    rng = random.Random(f"{name}{seed}")
    letters = "abcdef é漢\n"
    return [f"{name}{i}:" + "".join(rng.choices(letters, k=rng.randint(0, longest))) for i in range(count)]


def settings_for(tokenizer: Path, sources: dict[str, list[str]], **options: Any) -> PrepareSettings:
    given: dict[str, Source] = {name: Texts(texts) for name, texts in sources.items()}
    return PrepareSettings(str(tokenizer), given, **{"sequence_length": 32, "validation_share": 0.0, **options})


def split_rows(rows: Path, split: str = "train") -> datasets.Dataset:
    return datasets.load_from_disk(str(rows / split))


def tokens_of(rows: Path, split: str = "train") -> list[int]:
    return [token for row in split_rows(rows, split) for token in row["input_ids"]]


def documents_in(rows: Path, split: str = "train") -> tuple[list[str], bytes]:
    """Whole documents of a split, read back from bytes, and the bytes of the last one, which the rows cut off."""
    pieces, current = [], bytearray()
    for token in tokens_of(rows, split):
        if token == BYTE_EOS:
            pieces.append(current.decode())
            current = bytearray()
        else:
            current.append(token)
    return pieces, bytes(current)


def digest(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
