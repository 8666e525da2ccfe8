"""What ``prepare`` will take, before it takes it."""

import math
import tempfile
import time
from pathlib import Path

from remit_lit.data.settings import PrepareSettings
from remit_lit.data.tokenizing import Shard, Tokenizing
from remit_lit.models.tokenization import load_tokenizer

MOST_DISK = 1.2
"""Disk at the peak of a preparation by shards, the rows being 1."""
_TOKEN_BYTES = 4
_SAMPLE_TOKENS = 200_000  # of each source, from which its speed is known


def forecast(settings: PrepareSettings) -> list[str]:
    """Tokens, disk and time, a line each, from the settings and the beginning of each source; nothing is written.

    Raises:
        ConfigError: settings that cannot work.
        DataError: a malformed record in what is read.
    """
    settings.check()
    settings.check_sources()
    stages = settings.all_stages
    if any(stage.num_tokens is None for stage in stages):
        return ["tokens, disk, time: not known before all sources are read; num_tokens or stages say how much to take"]
    tokens = sum(stage.num_tokens or 0 for stage in stages)
    rows = sum((stage.num_tokens or 0) // settings.sequence_length for stage in stages)
    size = rows * settings.sequence_length * _TOKEN_BYTES
    lines = [
        f"tokens: {tokens:,} to train on, in {rows:,} rows of {settings.sequence_length:,}",
        f"disk: {_gigabytes(size)} GB of rows",
    ]
    if settings.draw == "documents":
        every = f"draw: documents tokenizes every source whole ({_TOKEN_BYTES} bytes a token), however large they are"
        return [*lines, f"time, and disk meanwhile: not known; {every}; draw: shards reads what it needs"]
    lines[-1] += f", at most {_gigabytes(MOST_DISK * size)} GB while they are written"
    return [*lines, _time(settings)]


def _gigabytes(size: float) -> str:
    return f"{math.ceil(size / 1e7) / 100:,.2f}"


def _time(settings: PrepareSettings) -> str:
    tokenizer = load_tokenizer(settings.tokenizer, settings.tokenizer_revision)
    seconds, rates = 0.0, []
    with tempfile.TemporaryDirectory() as scratch:
        job = Tokenizing.of(settings.sources, tokenizer, Path(scratch))
        for index, name in enumerate(job.names):
            start = time.perf_counter()
            sample = job.segments(Shard(index, 0, at_most=_SAMPLE_TOKENS))
            rate = sum(int(segment.records.lengths.sum()) for segment in sample) / (time.perf_counter() - start)
            wanted = sum(
                (stage.num_tokens or 0) * (stage.mix or {name: 1.0}).get(name, 0.0) for stage in settings.all_stages
            )
            seconds += wanted / max(rate, 1.0) / settings.num_workers
            rates.append(f"{name} {rate:,.0f}")
    return (
        f"time: about {seconds / 3600:,.1f} hours to tokenize in {settings.num_workers} processes, by the first "
        f"{_SAMPLE_TOKENS:,} tokens of each source (tokens/s of one process: {', '.join(rates)})"
    )
