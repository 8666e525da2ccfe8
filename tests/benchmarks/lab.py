"""A run of the lab's tables: its step against the same model in a plain PyTorch loop, and what it costs besides."""

import contextlib
import io
import itertools
import statistics
import tempfile
import time
from typing import Any, ClassVar

import datasets
import lightning.pytorch as pl
import torch
from torch.nn.functional import cross_entropy

from remit_lit.cli.dispatch import main
from remit_lit.models.spec import ModelSpec
from tests.benchmarks.measure import Figure, interleave, ratio
from tests.benchmarks.setting import CACHE

_CONFIGS = ("experiments/quickstart.yaml", "experiments/lab/measured.yaml", "baselines/ntp.yaml")
_ROWS = CACHE / "lab-rows"
_BATCH, _STEPS, _LOGGED_EVERY = 8, 300, 10


class StepClock(pl.Callback):
    """CPU-seconds of this process at the end of each optimizer step."""

    ends: ClassVar[list[float]] = []

    def on_train_start(self, *_: Any) -> None:
        self.ends.clear()

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(time.process_time())


def _kit() -> tuple[float, float]:
    """CPU-seconds of a step, and of a whole run beyond its steps; a table's jobs share a process like this one."""
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(io.StringIO()):
        began = time.process_time()
        main(
            [
                "fit",
                *(f"--config={config}" for config in _CONFIGS),
                f"--data.rows={_ROWS}",
                f"--run_dir={directory}/run",
                "--report=false",
                "--trainer.callbacks+=tests.benchmarks.lab.StepClock",
            ]
        )
        whole = time.process_time() - began
    ends = StepClock.ends
    return _median_step(ends), whole - (ends[-1] - ends[0])


def _plain() -> float:
    """CPU-seconds of a step of a loop as one writes it, on the same rows, each document attending to itself."""
    rows = datasets.load_from_disk(str(_ROWS / "train"))
    input_ids = torch.tensor(rows["input_ids"])  # [rows, time]
    lengths = torch.tensor(rows["document_lengths"])  # [rows, documents]
    policy: Any = ModelSpec("lab/base").load().train()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    ends = []
    for step, (ids, each) in enumerate(zip(input_ids.split(_BATCH), lengths.split(_BATCH), strict=True), 1):
        documents = torch.stack([torch.arange(len(row)).repeat_interleave(row) for row in each])  # [batch, time]
        positions = torch.cat([torch.arange(int(n)) for n in each.flatten()]).view_as(ids)
        mask = (documents[:, :, None] == documents[:, None]).tril()[:, None]
        logits = policy(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
        targets = ids[:, 1:].masked_fill(documents[:, 1:] != documents[:, :-1], -100)
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % _LOGGED_EVERY == 0:
            loss.item()
        ends.append(time.process_time())
    return _median_step(ends)


def _median_step(ends: list[float]) -> float:
    return statistics.median(b - a for a, b in itertools.pairwise(ends))


def figures(repeats: int) -> list[Figure]:
    """The step as a ratio, and the CPU-seconds of a run beyond its steps; both on one thread, as in a table."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    besides: list[float] = []

    def kit() -> float:
        step, rest = _kit()
        besides.append(rest)
        return step

    try:
        found = interleave({"kit": kit, "plain": _plain}, repeats)
    finally:
        torch.set_num_threads(threads)
    note = " against ".join(f"{1e3 * statistics.median(found[name]):.1f}" for name in ("kit", "plain")) + " ms"
    rest = besides[1:]
    return [
        ratio("a step of the lab / of a plain PyTorch loop, CPU time", found["kit"], found["plain"], "<= 1.30", note),
        Figure(
            "a run of the lab beyond its steps, CPU-seconds",
            statistics.median(rest),
            min(rest),
            max(rest),
            "<= 2.00",
            "config, model, evaluation on 2,000 problems, export; rows and imports are there",
        ),
    ]
