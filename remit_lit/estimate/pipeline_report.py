"""What ``estimate --pipeline=true`` prints."""

from collections.abc import Sequence
from functools import partial

from rich.table import Table

from remit_lit.estimate.layouts import LAYOUTS
from remit_lit.estimate.pipeline import Scale, failures, files, fit_seconds, stages
from remit_lit.estimate.rates import Rates
from remit_lit.estimate.run import PlannedRun
from remit_lit.terminal import console

_HOUR = 3600
_NOTES = """\
A stage takes as long as the slowest of what goes on in it at once: FLOPs, network, loading and disk overlap in \
full, which is the best case. prepare is reckoned on one node, and post-training and an evaluation on one GPU each.
The global batch is the config's. Failures come without memory; the interval is Daly's, and the hours are those of his \
complete model, with a restart after each failure. A checkpoint is ZeRO's, and training waits while it is written."""


def report_pipeline(
    run: PlannedRun, totals: Sequence[float], gpus: Sequence[int], gpu_flops: float, rates: Rates
) -> None:
    """Print hours, disk and failures of the whole pipeline.

    Args:
        run: whose model and batch are taken.
        totals: tokens of mid-training to compare.
        gpus: numbers of GPUs to compare.
        gpu_flops: FLOP/s that a GPU reaches.
        rates: of machines.
    """
    out = console()
    write = partial(out.print, sep="\n", soft_wrap=True, highlight=False)
    for tokens in totals:
        scale = _scale(run, tokens, gpu_flops)
        write(f"{tokens:,.0f} tokens, {tokens / scale.tokens_per_step:,.0f} steps: hours, and what bounds them")
        out.print(_hours(scale, gpus, rates))
        for name, (size, number) in files(scale).items():
            write(f"{name}: {size / 1e9:,.0f} GB in {number:,} files")
        write("")
    write(f"a checkpoint: {scale.checkpoint / 1e9:,.1f} GB, with an optimizer file of each GPU", "")
    write(f"flops_per_second x mfu = {gpu_flops:,.6g}, as in the estimate of a run")
    write(*(f"{name} = {value:,.6g}: {source}" for name, value, source in rates.sources()), "", *_NOTES.splitlines())


def _scale(run: PlannedRun, tokens: float, gpu_flops: float) -> Scale:
    return Scale(
        tokens=tokens,
        parameters=run.sizes.parameters,
        trained=run.sizes.trained,
        step_flops=run.sizes.flops,
        forward_flops=run.sizes.forward,
        tokens_per_step=run.tokens_per_step,
        sequence_length=run.sequence_length,
        checkpoint=run.checkpoint(LAYOUTS[1]),
        gpu_flops=gpu_flops,
    )


def _hours(scale: Scale, gpus: Sequence[int], rates: Rates) -> Table:
    table = Table("")
    for number in gpus:
        table.add_column(f"{number:,} GPU{'s' if number > 1 else ''}", justify="right")
    times = [stages(scale, rates, number) for number in gpus]
    for stage in times[0]:
        table.add_row(stage, *(f"{of[stage].hours:,.1f} {of[stage].bound}" for of in times))
    table.add_section()
    seconds = [fit_seconds(scale, rates, number) for number in gpus]
    table.add_row("fit: network / FLOPs", *(f"{of['network'] / of['FLOPs']:.2f}" for of in seconds))
    lost = [failures(scale, rates, number, max(of.values())) for number, of in zip(gpus, seconds, strict=True)]
    table.add_row("fit: hours between failures", *(f"{of.between / _HOUR:,.0f}" for of in lost))
    table.add_row("fit: failures", *(f"{of.number:,.2f}" for of in lost))
    table.add_row("fit: minutes between checkpoints", *(f"{of.interval / 60:,.1f}" for of in lost))
    steps = [
        of.interval / max(taken.values()) * scale.tokens / scale.tokens_per_step
        for of, taken in zip(lost, seconds, strict=True)
    ]
    table.add_row("fit: every_n_train_steps", *(f"{max(1, round(number)):,}" for number in steps))
    table.add_row("fit: hours with failures", *(f"{of.seconds / _HOUR:,.1f}" for of in lost))
    return table
