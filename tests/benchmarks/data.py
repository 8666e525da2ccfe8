"""``prepare`` against the bare tokenizer, the loader against training, and ``fit`` over few and over many rows."""

import json
import multiprocessing
import shutil
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import psutil  # type: ignore[import-untyped]
import torch
from tokenizers import Tokenizer
from torchdata.stateful_dataloader import StatefulDataLoader

from remit_lit.data.manifest import read_manifest
from remit_lit.data.prepare import prepare
from remit_lit.data.rows import Collate, PackedRows, ShuffledBatches
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.sources import JsonLines, Source
from remit_lit.weighting import NextTokenPrediction
from tests.benchmarks.measure import Figure, interleave, ratio, seconds
from tests.benchmarks.setting import BATCH, CACHE, TIME, model, rows, text, tiny_model
from tests.benchmarks.steps import kit
from tests.helpers import build

_PROCESSES = 2
_SHORT = 32  # tokens of a row where there are a million of them


def figures(repeats: int) -> list[Figure]:
    """All figures of data."""
    return [*_scale(repeats), _preparing(repeats), _loading(repeats)]  # memory first, before others leave some behind


def _tokenize(tokenizer: str, file: Path) -> int:
    bare = Tokenizer.from_file(tokenizer)
    texts = [json.loads(line)["text"] for line in file.read_text().splitlines()]
    pieces = (texts[start : start + 1000] for start in range(0, len(texts), 1000))
    return sum(len(encoding.ids) for piece in pieces for encoding in bare.encode_batch(piece))


def _preparing(repeats: int) -> Figure:
    output = CACHE / "prepared"
    sources: dict[str, Source] = {file.stem: JsonLines(str(file)) for file in text()}
    settings = PrepareSettings(str(model()), sources, TIME, num_workers=_PROCESSES)

    def kit_seconds() -> float:
        shutil.rmtree(output, ignore_errors=True)
        return seconds(lambda: prepare(output, settings))

    def bare() -> None:
        with multiprocessing.get_context("spawn").Pool(_PROCESSES) as pool:
            pool.map(partial(_tokenize, str(model() / "tokenizer.json")), text(), chunksize=1)

    times = interleave({"kit": kit_seconds, "bare": lambda: seconds(bare)}, repeats)
    tokens = sum(split["rows"] for split in read_manifest(output).counts.values()) * TIME
    rate = {name: tokens / statistics.median(found) for name, found in times.items()}
    note = (
        f"{rate['kit']:,.0f} against {rate['bare']:,.0f} tokens/s in {_PROCESSES} processes, {tokens / 1e6:.1f}M tokens"
    )
    return ratio("`prepare` / the tokenizer alone, tokens/s", times["bare"], times["kit"], ">= 0.70", note)


def _loading(repeats: int) -> Figure:
    packed = PackedRows(rows() / "train")

    def load() -> float:
        batches = ShuffledBatches(len(packed), BATCH, 400, seed=0)
        loader = iter(StatefulDataLoader(packed, batch_sampler=batches, collate_fn=Collate(True), num_workers=2))
        next(loader)  # the workers have started
        return seconds(lambda: [None for _ in loader]) / 399

    times = interleave({"load": load, "train": lambda: kit(NextTokenPrediction())}, repeats)
    rate = {name: BATCH * TIME / statistics.median(found) for name, found in times.items()}
    note = f"{rate['load']:,.0f} against {rate['train']:,.0f} tokens/s, 2 workers"
    return ratio("loading / training, tokens/s", times["train"], times["load"], ">= 20", note)


class _Steps(pl.Callback):
    """Seconds of a step, resident memory at the end, and what of it is no page of a file, which the kernel can drop."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.resident = self.own = 0.0

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(time.perf_counter())
        memory = psutil.Process().memory_info()
        self.resident, self.own = float(memory.rss), float(memory.rss - memory.shared)

    @property
    def step(self) -> float:
        return statistics.median(b - a for a, b in zip(self.ends[10:], self.ends[11:], strict=False))


def _short_rows(number: int) -> Path:
    directory = CACHE / f"rows-{number}"
    if not directory.exists():
        files = [str(file) for file in text()]
        sources: dict[str, Source] = {str(copy): JsonLines(files) for copy in range(8 if number > 10**5 else 1)}
        settings = PrepareSettings(
            str(model()),
            sources,
            _SHORT,
            num_tokens=number * _SHORT,
            num_workers=_PROCESSES,
        )
        prepare(directory, settings)
    return directory


def _scale(repeats: int) -> list[Figure]:
    def run(number: int) -> tuple[float, float, float]:
        watch = _Steps()
        with tempfile.TemporaryDirectory() as run_dir:
            begun, data = build(
                _short_rows(number),
                tiny_model(),
                run_dir,
                steps=200,
                batch_size=BATCH,
                optimizer=partial(torch.optim.AdamW, lr=1e-5),
                callbacks=[watch],
            )
            begun.trainer.fit(begun.module, datamodule=data)
        return watch.step, watch.resident, watch.own

    found: dict[int, list[tuple[float, float, float]]] = {10**4: [], 10**6: []}
    for repeat in range(repeats + 1):
        for number, runs in found.items():
            value = run(number)
            if repeat:
                runs.append(value)
    few, many = found.values()
    lines = []
    measured = (
        ("step time", 1e-3, "ms", "<= 1.05"),
        ("resident memory", 1e9, "GB", "<= 1.05"),
        ("resident memory without pages of files", 1e9, "GB", None),
    )
    for index, (what, unit, label, bar) in enumerate(measured):
        top, bottom = [run[index] for run in many], [run[index] for run in few]
        note = f"{statistics.median(top) / unit:.2f} against {statistics.median(bottom) / unit:.2f} {label}"
        lines.append(ratio(f"`fit` over 10^6 / over 10^4 rows, {what}", top, bottom, bar, note))
    return lines
