"""What ``estimate`` prints."""

from collections.abc import Iterator
from functools import partial

import torch
from jsonargparse import Namespace
from rich.table import Table

from remit_lit.errors import ConfigError, require_at_least, require_range
from remit_lit.estimate.layouts import LAYOUTS, PARTS, Layout
from remit_lit.estimate.pipeline_report import report_pipeline
from remit_lit.estimate.rates import Rates
from remit_lit.estimate.run import PlannedRun, RunSettings
from remit_lit.models.loss_head import Recomputed
from remit_lit.terminal import console
from remit_lit.training.datamodule import PackedData

_RATES = Rates()
_GB = 1e9
_DAY = 86400
_BF16_UNITS = ("avx512_bf16", "amx_bf16", "bf16")  # as torch.cpu names them; the last on ARM
_ASSUMPTIONS = """\
Activations, loss and temporaries are counted, not estimated by a formula: a step is traced with fake tensors of the \
run's shapes, with SDPA as on a CPU, which keeps for backward what a GPU's fused kernels keep. Documents in a row are \
told apart by a mask unless attention is flash or flex.
DDP on one GPU is one process; on more it has buckets as large as the gradients. ZeRO is DeepSpeed's as Lightning \
sets it up: bf16 weights with any bf16, float32 master weights, states and gradients, buckets of 2e8 elements; stage 3 \
keeps up to 1e9 gathered weights. Frozen models are whole on each GPU.
Not counted: the device's context, communication libraries, fragmentation in the allocator, torch.compile.
Time: 6 FLOPs per parameter and token and those of attention, as in the logged mfu, and a third of that for each live \
reference; recomputation, validation, communication and file access are taken as free."""


def estimate(
    module: RunSettings,
    data: PackedData,
    trainer: Namespace,
    gpu_memory: float = 80e9,
    flops_per_second: float = 989e12,
    mfu: float = 0.4,
    gpus: list[int] | None = None,
    pipeline: bool = False,
    tokens: list[float] | None = None,
    rates: Rates = _RATES,
) -> None:
    """Print what a run takes.

    Args:
        module: the settings of the model and its training; its models need not be loaded.
        data: built from the config.
        trainer: the config's fields of the trainer.
        gpu_memory: memory of a GPU in bytes; layouts that need more are put in brackets. The default is an H100's.
        flops_per_second: peak FLOP/s of a GPU in the run's precision; the default is an H100's (SXM, dense bf16).
        mfu: share of the peak that the run reaches, in (0, 1]; give the logged mfu of a similar run. Llama 3 reached
            0.38 to 0.43 (arXiv:2407.21783, table 4).
        gpus: numbers of GPUs to compare; null is 1, 8, 64, 512 and the number in the config.
        pipeline: print instead what all stages take, from text to evaluation, with their disk and failures.
        tokens: of mid-training, to compare with pipeline; null is 5e10 and 1e12.
        rates: of machines, with pipeline.

    Raises:
        ConfigError: a number out of range, or a config that cannot be estimated.
    """
    require_range("gpu_memory", gpu_memory, 0.0, float("inf"))
    require_range("flops_per_second", flops_per_second, 0.0, float("inf"))
    require_range("mfu", mfu, 0.0, 1.0)
    if gpus is not None and (not gpus or min(gpus) < 1):
        raise ConfigError(f"gpus: got {gpus}; give numbers of GPUs of at least 1, e.g. [1,8]")
    totals = tokens or [5e10, 1e12]
    require_at_least("tokens", min(totals), 1)
    rates.check()
    run = PlannedRun(module, data, trainer)
    compared = gpus or sorted({1, 8, 64, 512, run.gpus})
    if pipeline:
        report_pipeline(run, totals, compared, flops_per_second * mfu, rates)
        return
    out = console()
    write = partial(out.print, sep="\n", soft_wrap=True, highlight=False)
    write(*_run(run), *_advice(run.accelerator, run.precision))
    checkpointing = _recomputed(module.activation_checkpointing)
    write(f"\nPeak memory of a GPU in GB, {_count(run.gpus, 'GPU')}, activation checkpointing: {checkpointing}")
    out.print(_parts(run))
    write(f"\nPeak memory of a GPU in GB; in brackets: above {_gb(gpu_memory)}")
    out.print(_fits(run, compared, gpu_memory, flops_per_second * mfu))
    write(*_disk(run), "", *_ASSUMPTIONS.splitlines())


def _run(run: PlannedRun) -> Iterator[str]:
    sizes = run.sizes
    yield (
        f"{type(run.settings.weighting).__name__} on {sizes.name}: {sizes.parameters:,} parameters, "
        f"{sizes.embeddings:,} of them in embeddings, {sizes.trained:,} trained; {run.precision}"
    )
    yield (
        f"a step: {_count(run.gpus, 'GPU')} x {_count(run.accumulate, 'micro-batch', 'es')} x "
        f"{_count(run.batch_size, 'row')} x {run.sequence_length:,} tokens; "
        f"the run: {_count(run.steps, 'step')}, {run.steps * run.tokens_per_step:,} tokens"
    )


def _advice(accelerator: str, precision: str) -> Iterator[str]:
    """Which precision is faster on this machine's CPU, where the run is on it and has the other."""
    if accelerator not in ("cpu", "auto") or (accelerator == "auto" and torch.cuda.is_available()):
        return
    has_units = any(torch.cpu.get_capabilities().get(name) for name in _BF16_UNITS)
    if has_units and precision == "32-true":
        yield "this CPU has units for bfloat16: --trainer.precision=bf16-mixed should be faster; measure a few steps"
    elif not has_units and precision != "32-true":
        yield f"this CPU has no units for bfloat16: --trainer.precision=32-true should be faster than {precision}"


def _parts(run: PlannedRun) -> Table:
    checkpointing = run.settings.activation_checkpointing
    memory = [run.memory(layout, run.gpus, checkpointing=checkpointing) for layout in LAYOUTS]
    table = Table("part")
    for layout in LAYOUTS:
        table.add_column(layout.name, justify="right")
    for part in PARTS:
        sizes = [of.gpu.get(part, 0) for of in memory]
        if any(sizes):
            table.add_row(part, *(_gb(size) if size else "" for size in sizes))
    table.add_section()
    table.add_row("total", *(_gb(sum(of.gpu.values())) for of in memory))
    if any(of.choosing for of in memory):
        table.add_row("choosing rows", *(_gb(of.choosing) for of in memory))
    table.add_row("host memory", *(_gb(of.host) if of.host else "" for of in memory))
    return table


def _recomputed(which: Recomputed) -> str:
    if isinstance(which, bool):
        return "yes" if which else "no"
    return "attention" if isinstance(which, str) else f"1 layer of {which}"


def _fits(run: PlannedRun, gpus: list[int], gpu_memory: float, flops: float) -> Table:
    table = Table("", "checkpointing")
    for number in gpus:
        table.add_column(_count(number, "GPU"), justify="right")

    def cell(layout: Layout, number: int, checkpointing: Recomputed) -> str:
        total = run.memory(layout, number, checkpointing=checkpointing).total
        return _gb(total) if total <= gpu_memory else f"({_gb(total)})"

    asked = run.settings.activation_checkpointing
    compared = [False, *([] if isinstance(asked, bool) else [asked]), True]
    for layout in LAYOUTS:
        for checkpointing in compared:
            cells = [cell(layout, number, checkpointing) for number in gpus]
            table.add_row("" if checkpointing else layout.name, _recomputed(checkpointing), *cells)
    table.add_section()
    rates = [number * flops / run.sizes.flops for number in gpus]
    table.add_row("tokens/s", "", *(f"{rate:,.0f}" for rate in rates))
    tokens = run.steps * run.tokens_per_step
    table.add_row("days", "", *(f"{tokens / rate / _DAY:,.2f}" for rate in rates))
    return table


def _disk(run: PlannedRun) -> Iterator[str]:
    without, with_ = (run.step(LAYOUTS[0], checkpointing=checkpointing).activations for checkpointing in (False, True))
    yield f"activations of a micro-batch: {_gb(without)} GB; with checkpointing {_gb(with_)} GB"
    for name, size in run.columns().items():
        yield f"score column {name}: " + ("its size is known once the rows are" if size is None else f"{_gb(size)} GB")
    yield (
        f"a checkpoint: {_gb(run.checkpoint(LAYOUTS[0]))} GB, of ZeRO {_gb(run.checkpoint(LAYOUTS[1]))} GB; "
        f"the exported model: {_gb(run.exported)} GB"
    )


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number:,} {noun}" + (plural if number > 1 else "")


def _gb(size: float) -> str:
    return f"{size / _GB:,.2f}" if size < 100 * _GB else f"{size / _GB:,.0f}"
