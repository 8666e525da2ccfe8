"""``prepare`` against the bare tokenizer, the loader against training, and ``fit`` over few and over many rows."""

import gc
import json
import multiprocessing
import shutil
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import lightning.pytorch as pl
import numpy as np
import psutil  # type: ignore[import-untyped]
import torch
from tokenizers import Tokenizer
from torch.utils.data import Dataset
from torchdata.stateful_dataloader import StatefulDataLoader

from remit_lit.data.columns import ColumnFacts, ScoreColumn, shard_path, write_facts, write_shard
from remit_lit.data.manifest import read_manifest
from remit_lit.data.prepare import prepare
from remit_lit.data.row_checksums import ROW_FIELDS
from remit_lit.data.rows import Collate, PackedRows, Row, ShuffledBatches
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.sources import JsonLines, Source
from remit_lit.weighting import NextTokenPrediction
from tests.benchmarks.measure import Figure, interleave, ratio, seconds
from tests.benchmarks.setting import BATCH, CACHE, TIME, model, rows, text, tiny_model
from tests.benchmarks.steps import kit
from tests.helpers import build

_PROCESSES = 2
_SHORT = 32  # tokens of a row where there are a million of them
_LONG = 4096  # tokens of a row of OLMo 2
_ROWS_PER_FILE = 1000  # of simulated files
_ROWS_PER_LARGE_FILE = 31_250  # about those of 4,096 tokens in the 500 MB of a file


def figures(repeats: int) -> list[Figure]:
    """All figures of data."""
    # memory first, before others leave some behind
    loading = [_loading(repeats), *_against_datasets(repeats)]
    return [*_scale(repeats), _preparing(repeats), *loading, _starting(repeats), *_starting_at_size(repeats)]


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


class _ByDatasets(Dataset[Row]):
    """The same rows, read by `datasets` and compared with nothing."""

    def __init__(self, directory: Path) -> None:
        self._rows = datasets.load_from_disk(str(directory)).with_format("numpy")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, numbers: list[int]) -> list[Row]:
        fields = self._rows[numbers]
        parts = zip(*(fields[name] for name in ROW_FIELDS), strict=True)
        return [
            Row(number, tokens, lengths, sources, {})
            for number, (tokens, lengths, sources) in zip(numbers, parts, strict=True)
        ]


def _against_datasets(repeats: int) -> list[Figure]:
    directory = CACHE / f"rows-of-{_LONG}"
    if not directory.exists():
        files = JsonLines([str(file) for file in text()])
        prepare(directory, PrepareSettings(str(model()), {"text": files}, _LONG, num_workers=_PROCESSES))

    def load(rows: Dataset[Row]) -> float:
        batches = ShuffledBatches(len(rows), 4, 100, seed=0)  # type: ignore[arg-type]
        loader = iter(StatefulDataLoader(rows, batch_sampler=batches, collate_fn=Collate(True), num_workers=2))
        next(loader)  # the workers have started
        return seconds(lambda: [None for _ in loader]) / 99

    variants = {"kit": PackedRows(directory / "train"), "datasets": _ByDatasets(directory / "train")}
    times = interleave({name: partial(load, rows) for name, rows in variants.items()}, repeats)
    rate = {name: 4 * _LONG / statistics.median(found) for name, found in times.items()}
    note = f"{rate['kit']:,.0f} against {rate['datasets']:,.0f} tokens/s, 2 workers, batch 4 x {_LONG:,}"
    rates = [4 * _LONG / taken / 1e6 for taken in times["kit"]]
    alone = "2 workers, batch 4 x 4,096, a checksum of each row compared"
    return [
        Figure("loading, million tokens/s", statistics.median(rates), min(rates), max(rates), ">= 1.00", alone),
        ratio("loading / loading by `datasets`, tokens/s", times["datasets"], times["kit"], ">= 1.00", note),
    ]


def _simulated(num_files: int, rows_per_file: int) -> Path:
    """Rows and a column in so many files, all of them links to the same two; of checksums only the ends are there."""
    directory = CACHE / f"simulated-{num_files}x{rows_per_file}"
    if directory.exists():
        return directory
    source = _short_rows(10**6 if rows_per_file > 10**4 else 10**4) / "train"
    writing = directory.with_suffix(".part")
    shutil.rmtree(writing, ignore_errors=True)
    datasets.load_from_disk(str(source)).select(range(rows_per_file)).save_to_disk(str(writing), num_shards=1)
    (arrow,) = writing.glob("*.arrow")
    state = json.loads((writing / "state.json").read_text())
    state["_data_files"] = [{"filename": f"{index}.arrow", "rows": rows_per_file} for index in range(num_files)]
    (writing / "state.json").write_text(json.dumps(state))
    known = np.load(source / "checksums.npy")[:rows_per_file]
    sums = np.lib.format.open_memmap(writing / "checksums.npy", "w+", known.dtype, (num_files * rows_per_file,))
    sums[:rows_per_file] = sums[-rows_per_file:] = known
    sums.flush()
    write_facts(writing, ColumnFacts("", "", "", True, "float16", len(sums), rows_per_file, _SHORT))
    write_shard(writing, num_files, np.zeros((rows_per_file, _SHORT), np.float16))
    for index in range(num_files):
        (writing / f"{index}.arrow").symlink_to(arrow.name)
        shard_path(writing, index).symlink_to(shard_path(writing, num_files).name)
    writing.rename(directory)
    return directory


def _starting(repeats: int) -> Figure:
    def start(num_files: int) -> float:
        directory = _simulated(num_files, _ROWS_PER_FILE)
        opened = []
        taken = seconds(lambda: opened.append(PackedRows(directory, {"nll": ScoreColumn(directory)})[0]))
        assert len(opened) == 1
        return taken

    few, many = 10, 10**4
    times = interleave({str(number): partial(start, number) for number in (few, many)}, max(repeats, 5))
    note = " against ".join(f"{1000 * statistics.median(times[str(number)]):.1f} ms" for number in (many, few))
    name = f"the first row and its scores of {many:,} files / of {few}, time"
    return ratio(name, times[str(many)], times[str(few)], None, f"{note}, {_ROWS_PER_FILE:,} rows a file")


def _starting_at_size(repeats: int) -> list[Figure]:
    directory = _simulated(10**9 // _ROWS_PER_LARGE_FILE, _ROWS_PER_LARGE_FILE)
    process, found = psutil.Process(), []
    for _ in range(repeats):
        gc.collect()
        resident, descriptors = process.memory_info().rss, process.num_fds()
        opened: list[PackedRows] = []

        def start(opened: list[PackedRows] = opened) -> None:
            rows = PackedRows(directory, {"nll": ScoreColumn(directory)})
            opened.append(rows)
            assert [rows[number].number for number in (0, len(rows) - 1)] == [0, 10**9 - 1]

        taken = seconds(start)
        grown = (process.memory_info().rss - resident) / 1e6
        found.append((taken, grown, float(process.num_fds() - descriptors)))
    labels = (("time, s", "<= 2.00"), ("resident memory, MB", None), ("descriptors", None))
    note = f"first and last row with scores, {_ROWS_PER_LARGE_FILE:,} rows a file; checksums are a sparse file"
    return [
        Figure(f"the start over 10^9 rows, {label}", statistics.median(values), min(values), max(values), bar, note)
        for (label, bar), values in zip(labels, zip(*found, strict=True), strict=True)
    ]


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
