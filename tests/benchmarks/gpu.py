"""``python -m tests.benchmarks gpu``: training and scoring on one GPU, as a table in RESULTS_GPU.md."""

import argparse
import gc
import platform
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from tests.benchmarks.gpu_variants import PROFILED, SHAPES, TIMED, VARIANTS, WARM, Fit, Inputs

_OPERATIONS = 10  # that the profile shows
_PACKAGES = ("torch", "lightning", "transformers", "liger-kernel", "cut-cross-entropy")
_RESULTS = "RESULTS_GPU.md"


class _Profile(pl.Callback):
    """Which operations the timed steps spend their time in.

    Attributes:
        lines: of a table, the costliest operation first.
    """

    def __init__(self, device: torch.device) -> None:
        self.lines: list[str] = []
        self._time = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
        self._profile = torch.profiler.profile()

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == WARM:
            self._profile.start()

    def on_train_end(self, *_: Any) -> None:
        self._profile.stop()
        found = [event for event in self._profile.key_averages() if getattr(event, self._time) > 0]
        total = sum(getattr(event, self._time) for event in found)
        for event in sorted(found, key=lambda event: -getattr(event, self._time))[:_OPERATIONS]:
            share = getattr(event, self._time) / total
            self.lines.append(f"| `{event.key.replace('|', ' ')[:80]}` | {event.count} | {share:.1%} |")


@dataclass
class Measured:
    """What the repeats of a variant found.

    Attributes:
        seconds: of a step, of each repeat.
        peak: bytes of the device that were in use at once, the most of any repeat; 0 on a CPU.
        estimate: bytes that `estimate` says; None of what it does not know.
        is_too_large: it ran out of memory.
    """

    seconds: list[float] = field(default_factory=list)
    peak: int = 0
    estimate: int | None = None
    is_too_large: bool = False

    def add(self, inputs: Inputs, name: str) -> None:
        """One more repeat."""
        variant = VARIANTS[name]
        if isinstance(variant, Fit) and not variant.options and self.estimate is None:
            self.estimate = variant.estimate(inputs, inputs.batch)
        gc.collect()
        on_gpu = inputs.device.type == "cuda"
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(inputs.device)
        try:
            self.seconds.append(variant(inputs))
        except torch.OutOfMemoryError:
            self.is_too_large = True
        if on_gpu:
            self.peak = max(self.peak, torch.cuda.max_memory_allocated(inputs.device))

    def line(self, inputs: Inputs, name: str) -> str:
        """Of the table."""
        estimate = "" if self.estimate is None else f"{self.estimate / 1e9:.2f}"
        if self.is_too_large:
            return f"| {name} | out of memory | | | | {estimate} |"
        rates = [inputs.tokens / seconds for seconds in self.seconds]
        rate, peak = statistics.median(rates), inputs.flops_per_second
        share = inputs.flops_per_token() / (3 if name == "`score`" else 1)
        mfu = "" if peak is None else f"{rate * share / peak:.1%}"
        memory = f"{self.peak / 1e9:.2f}" if self.peak else ""
        return f"| {name} | {rate:,.0f} | {min(rates):,.0f} to {max(rates):,.0f} | {mfu} | {memory} | {estimate} |"


def report(lines: list[str], inputs: Inputs, shape: str, profile: list[str]) -> str:
    """The whole of RESULTS_GPU.md."""
    device = inputs.device
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU, to try this program"
    versions = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    head = [
        "# Benchmarks on a GPU",
        "",
        "`python -m tests.benchmarks gpu` wrote this file.",
        "",
        f"{where}; Python {platform.python_version()}, {versions}.",
        "",
        f"{shape} with random weights, {inputs.batch} rows of {inputs.shape.time:,} tokens a step (as many as "
        f"`estimate` says fit with a live reference), bfloat16 autocast, fused AdamW; {TIMED} steps after {WARM}. "
        "Medians of interleaved repeats, each with its smallest and largest. MFU counts the policy's FLOPs only.",
        "",
        "| what | tokens/s | repeats | MFU | peak memory, GB | `estimate`, GB |",
        "|---|---|---|---|---|---|",
    ]
    kernels = [
        "",
        f"## Where the time of {PROFILED} goes",
        "",
        "| operation | calls | share |",
        "|---|---|---|",
        *profile,
    ]
    return "\n".join([*head, *lines, *(kernels if profile else []), ""])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def main(arguments: list[str]) -> None:
    """Measure every variant in turn, as often as asked; RESULTS_GPU.md holds what is done."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks gpu", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu only tries this program")
    parser.add_argument("--shape", choices=SHAPES, default="olmo2-1b")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help=f"folder of {_RESULTS}")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: no NVIDIA GPU here; nothing was measured")
    found: dict[str, Measured] = {name: Measured() for name in given.only}
    with tempfile.TemporaryDirectory() as folder:
        inputs = Inputs(Path(folder), SHAPES[given.shape], torch.device(given.device))
        profile = _Profile(inputs.device)

        def write() -> None:
            lines = [each.line(inputs, name) for name, each in found.items() if each.seconds or each.is_too_large]
            (given.output / _RESULTS).write_text(report(lines, inputs, given.shape, profile.lines))

        for _ in range(given.repeats):
            for name in [name for name in given.only if not found[name].is_too_large]:
                found[name].add(inputs, name)
                print(found[name].line(inputs, name), flush=True)
                write()
        profiled = VARIANTS[PROFILED]
        if isinstance(profiled, Fit) and found.get(PROFILED, Measured()).seconds:
            profiled(inputs, profile)
            write()
