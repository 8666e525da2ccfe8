"""``prepare`` over 10^7 short documents: its rate, memory, disk, and what it reads for a tenth of the tokens."""

import json
import multiprocessing
import os
import shutil
import statistics
import threading
from functools import partial
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]
from tokenizers import Tokenizer

from remit_lit.data.manifest import read_manifest
from remit_lit.data.prepare import prepare
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.sources import JsonLines
from tests.benchmarks.measure import Figure, seconds
from tests.benchmarks.setting import CACHE, TIME, model

_PROCESSES = 2
_FILES, _DOCUMENTS = 40, 10**7
_WORDS = 10  # of a document, of a made-up language
_SAMPLE = 250_000  # documents that the bare tokenizer reads
_SECONDS_BETWEEN = 0.2  # two looks at memory and disk


def figures(repeats: int) -> list[Figure]:
    """All figures of preparing."""
    rates, memories, disks, of_tenths, reads = [], [], [], [], []
    for _ in range(repeats):
        bare = _bare_rate()
        whole = _Watched("whole", None)
        tenth = _Watched("tenth", whole.tokens // 10)
        rates.append(whole.rate / bare)
        memories.append(max(whole.memory, tenth.memory) / 1e9)
        disks.append(whole.disk / whole.size)
        of_tenths.append(tenth.disk / tenth.size)
        reads.append(tenth.read / whole.read)
        note = (
            f"{whole.rate:,.0f} against {bare:,.0f} tokens/s, {_PROCESSES} processes, {whole.tokens / 1e6:.0f}M tokens"
        )
    where = f"{_DOCUMENTS:,} documents of {_WORDS} words in {_FILES} files, draw: shards"
    return [
        _figure("`prepare` / the tokenizer alone, 10^7 documents, tokens/s", rates, ">= 0.70", note),
        _figure("resident memory of a process, GB", memories, "<= 1.00", where),
        _figure("disk at the peak / the rows", disks, "<= 1.20", where),
        _figure("the same for a tenth of the tokens", of_tenths, None, "files that are begun are tokenized whole"),
        _figure("bytes read for a tenth of the tokens / for all", reads, "<= 0.15", where),
    ]


def _figure(name: str, values: list[float], bar: str | None, note: str) -> Figure:
    return Figure(name, statistics.median(values), min(values), max(values), bar, note)


def _texts() -> list[Path]:
    directory = CACHE / "short-documents"
    files = [directory / f"{index:02}.jsonl" for index in range(_FILES)]
    if not files[-1].exists():
        directory.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(0)
        letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
        words = ["".join(random.choice(letters, size)) for size in random.integers(2, 9, 5000)]
        lines = [json.dumps({"text": " ".join(random.choice(words, _WORDS))}) + "\n" for _ in range(10**5)]
        for file in files:
            chosen = random.integers(0, len(lines), _DOCUMENTS // _FILES)
            file.with_suffix(".part").write_text("".join(lines[index] for index in chosen))
            file.with_suffix(".part").rename(file)
    return files


def _bare_rate() -> float:
    """Tokens a second of the tokenizer in as many processes."""
    texts = [json.loads(line)["text"] for line in _texts()[0].read_text().splitlines()][:_SAMPLE]
    halves = [texts[index::_PROCESSES] for index in range(_PROCESSES)]
    encode = partial(_encode, str(model() / "tokenizer.json"))
    with multiprocessing.get_context("spawn").Pool(_PROCESSES) as pool:
        pool.map(encode, [half[:1000] for half in halves], chunksize=1)  # the processes have started
        tokens: list[int] = []
        taken = seconds(lambda: tokens.extend(pool.map(encode, halves, chunksize=1)))
    return sum(tokens) / taken


def _encode(tokenizer: str, texts: list[str]) -> int:
    bare = Tokenizer.from_file(tokenizer)
    pieces = (texts[start : start + 1000] for start in range(0, len(texts), 1000))
    return sum(len(encoding.ids) + 1 for piece in pieces for encoding in bare.encode_batch(piece))  # EOS is one more


class _Watched:
    """One preparation, and what it took.

    Attributes:
        tokens: in its rows.
        rate: tokens a second.
        memory: bytes that its largest process had resident and shared with none.
        disk: bytes below its directory at the peak.
        size: bytes of the rows.
        read: bytes that its processes read of files.
    """

    def __init__(self, name: str, num_tokens: int | None) -> None:
        directory = CACHE / "prepared-short"
        shutil.rmtree(directory, ignore_errors=True)
        self.memory = self.disk = self.read = 0.0
        self._of_processes: dict[int, float] = {}
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(directory, done))
        settings = PrepareSettings(
            str(model()),
            {"text": JsonLines([str(file) for file in _texts()])},
            TIME,
            num_tokens=num_tokens,
            num_workers=_PROCESSES,
            draw="shards",
        )
        watch.start()
        try:
            taken = seconds(lambda: prepare(directory / name, settings))
        finally:
            done.set()
            watch.join()
        self.tokens = sum(split["rows"] for split in read_manifest(directory / name).counts.values()) * TIME
        self.rate, self.size = self.tokens / taken, float(_bytes_below(directory / name))
        self.read = sum(self._of_processes.values())
        shutil.rmtree(directory)

    def _watch(self, directory: Path, done: threading.Event) -> None:
        before = _read(os.getpid())
        while not done.wait(_SECONDS_BETWEEN):
            for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
                try:
                    memory = process.memory_info()
                    started = before if process.pid == os.getpid() else 0.0
                    self._of_processes[process.pid] = _read(process.pid) - started
                except (psutil.Error, OSError):  # it has ended
                    continue
                self.memory = max(self.memory, float(memory.rss - memory.shared))
            self.disk = max(self.disk, float(_bytes_below(directory)))


def _read(process: int) -> float:
    """Bytes that a process has read by system calls, from the page cache too."""
    lines = Path(f"/proc/{process}/io").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("rchar")))


def _bytes_below(directory: Path) -> int:
    total = 0
    for parent, _, files in os.walk(directory):
        for file in files:
            try:
                total += Path(parent, file).lstat().st_blocks * 512
            except FileNotFoundError:
                continue
    return total
