"""Time of an optimizer step and peak memory of a run: ``fit`` and a plain ``transformers.Trainer``."""

import itertools
import logging
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import lightning.pytorch as pl
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import CachedReference, LiveReference, Reference
from remit_lit.weighting import NextTokenPrediction, ReMiT, TokenWeighting
from tests.benchmarks.measure import Figure, interleave, ratio
from tests.benchmarks.setting import BATCH, TIME, model, rows
from tests.helpers import fit

_STEPS = 3
# Rows of a micro-batch of 4,096 tokens, as the losses are measured with.
_LARGE = 8
_LEARNING_RATE, _WEIGHT_DECAY, _BETA2, _CLIP = 1e-5, 0.1, 0.95, 1.0


class _FitClock(pl.Callback):
    """When each optimizer step of ``fit`` ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(time.perf_counter())


class _TrainerClock(TrainerCallback):
    """When each optimizer step of ``transformers.Trainer`` ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())


def _step(ends: list[float]) -> float:
    """Median seconds of a step; the first, from start to end, is left out."""
    return statistics.median(b - a for a, b in itertools.pairwise(ends))


def kit(
    weighting: TokenWeighting, reference: Reference | None = None, batch_size: int = BATCH, steps: int = _STEPS
) -> float:
    """Seconds of a step of ``fit``."""
    clock = _FitClock()
    adamw = partial(torch.optim.AdamW, lr=_LEARNING_RATE, betas=(0.9, _BETA2), weight_decay=_WEIGHT_DECAY, fused=True)
    with tempfile.TemporaryDirectory() as run_dir:
        fit(
            rows(),
            model(),
            run_dir,
            steps=steps,
            batch_size=batch_size,
            optimizer=adamw,
            document_attention=False,
            callbacks=[clock],
            trainer={"gradient_clip_val": _CLIP},
            weighting=weighting,
            reference=reference,
        )
    return _step(clock.ends)


class TwoFullLogits(Trainer):
    """ReMiT as one writes it first: whole logits of both models, then their cross-entropies."""

    reference: Any = None

    def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        targets = inputs["input_ids"][:, 1:]

        def nll(logits: torch.Tensor) -> torch.Tensor:
            return cross_entropy(logits[:, :-1].float().transpose(1, 2), targets, reduction="none")

        policy_nll = nll(model(input_ids=inputs["input_ids"]).logits)
        with torch.no_grad():
            delta = policy_nll - nll(self.reference(input_ids=inputs["input_ids"]).logits)
            weights = (2 * torch.sigmoid(delta - delta.mean(1, keepdim=True))).clamp(0.8, 1.2)
        return (weights * policy_nll).mean()


def plain(trainer_class: type[Trainer] = Trainer, batch_size: int = BATCH, steps: int = _STEPS) -> float:
    """Seconds of a step of ``transformers.Trainer``."""
    clock, directory = _TrainerClock(), str(model())
    columns = datasets.load_from_disk(str(rows() / "train")).select_columns(["input_ids"])
    data = columns.map(lambda row: {"labels": row["input_ids"]})
    with tempfile.TemporaryDirectory() as run_dir:
        arguments = TrainingArguments(
            run_dir,
            max_steps=steps,
            per_device_train_batch_size=batch_size,
            learning_rate=_LEARNING_RATE,
            adam_beta2=_BETA2,
            weight_decay=_WEIGHT_DECAY,
            max_grad_norm=_CLIP,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
        )
        policy = AutoModelForCausalLM.from_pretrained(directory)
        trainer = trainer_class(policy, arguments, train_dataset=data, callbacks=[clock])
        trainer.remove_callback(PrinterCallback)
        if isinstance(trainer, TwoFullLogits):
            trainer.reference = AutoModelForCausalLM.from_pretrained(directory).eval()
        trainer.train()
    return _step(clock.ends)


_VARIANTS: dict[str, Callable[[], float]] = {
    "trainer": plain,
    "ntp": lambda: kit(NextTokenPrediction()),
    "cached": lambda: kit(ReMiT(), CachedReference("nll")),
    "live": lambda: kit(ReMiT(), LiveReference(ModelSpec(str(model())))),
    "two full logits": lambda: plain(TwoFullLogits),
}


def figures(repeats: int) -> list[Figure]:
    """Ratios of step times, and of peak memories of processes that do one run each."""
    found = interleave(_VARIANTS, repeats)
    tokens = BATCH * TIME
    rate = {name: tokens / statistics.median(times) for name, times in found.items()}
    note = f"{rate['ntp']:,.0f} against {rate['trainer']:,.0f} tokens/s, batch {BATCH} x {TIME}"
    lines = [
        ratio("NTP `fit` / `transformers.Trainer`, tokens/s", found["trainer"], found["ntp"], ">= 1.00", note),
        *(_peaks(batch_size) for batch_size in (_LARGE, BATCH)),
        ratio("ReMiT with cached scores / NTP, step time", found["cached"], found["ntp"], "<= 1.03", ""),
        ratio("ReMiT with a live reference / NTP, step time", found["live"], found["ntp"], "<= 1.36", ""),
    ]
    naive, name = found["two full logits"], "ReMiT with two full-logit forwards / NTP, step time"
    return [
        *lines,
        ratio(f"{name} of `transformers.Trainer`", naive, found["trainer"], None, ""),
        ratio(f"{name} of `fit`", naive, found["ntp"], None, ""),
    ]


def _peaks(batch_size: int) -> Figure:
    found = {}
    for which in ("ntp", "trainer"):
        command = [sys.executable, "-m", "tests.benchmarks.steps", which, str(batch_size)]
        found[which] = [float(subprocess.check_output(command))]
    note = " against ".join(f"{statistics.median(peaks) / 1e9:.2f}" for peaks in found.values()) + " GB"
    name = "NTP `fit` / `transformers.Trainer`, peak memory of the process"
    bar = "<= 0.80" if batch_size == _LARGE else None
    return ratio(name, found["ntp"], found["trainer"], bar, f"{note}, batch {batch_size} x {TIME}")


def _peak_bytes() -> int:
    """Of this process. (`getrusage` counts the parent's memory at the fork as well.)"""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    # Two steps: from the second on, the optimizer's states are there.
    size = int(sys.argv[2])
    if sys.argv[1] == "ntp":
        kit(NextTokenPrediction(), batch_size=size, steps=2)
    else:
        plain(batch_size=size, steps=2)
    print(_peak_bytes())
