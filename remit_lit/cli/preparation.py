"""``prepare`` from a command line."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

# Imported so that configs find their classes by short names.
import remit_lit.data.datatrove_reader
import remit_lit.data.indexed_tokens
import remit_lit.data.lab_documents  # noqa: F401
from remit_lit.cli.launching import add_launcher, launched
from remit_lit.cli.parser import parse, settings_of, verb_parser
from remit_lit.data.forecast import forecast
from remit_lit.data.manifest import read_manifest
from remit_lit.data.prepare import prepare
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.storage import require_local
from remit_lit.data.tokenizing_ranks import first_rank, other_rank
from remit_lit.data.tokenizing_ray import ray_workers
from remit_lit.data.tokenizing_workers import StartWorkers
from remit_lit.files import make_directory
from remit_lit.runs.folder import global_rank
from remit_lit.runs.lock import held


def run_prepare(verb: str, arguments: Sequence[str]) -> None:
    """Pack text into rows, and print what they hold."""
    parser = verb_parser(verb)
    parser.add_argument("--output", type=str, required=True, help="directory to write the rows to")
    parser.add_argument("--overwrite", type=bool, default=False, help="replace the directory if it exists")
    parser.add_argument(
        "--dry_run", type=bool, default=False, help="say which tokens, disk and time it will take, and write nothing"
    )
    parser.add_class_arguments(PrepareSettings)
    add_launcher(parser, "it", ray=True)
    values = parser.instantiate_classes(parse(parser, arguments))
    settings = settings_of(PrepareSettings, values)
    if values.dry_run:
        print("\n".join(forecast(settings)))
        return
    require_local("output", values.output, "give a directory, and copy it to the storage when it is whole")
    output, is_ray = Path(values.output), values.launcher == "ray"
    if launched(verb, arguments, values):
        return
    ranks = _ranks()
    if ranks > 1 and global_rank():
        other_rank(_address(output), settings.num_workers)
        return
    start: StartWorkers | None = None
    with ExitStack() as stack:
        if ranks > 1:
            make_directory(output.parent)
            start = stack.enter_context(first_rank(_address(output), ranks, settings.num_workers))
        elif is_ray:
            start = ray_workers(settings.num_workers)
        is_locked = stack.enter_context(held("output", output))
        rows = prepare(output, settings, overwrite=values.overwrite, start=start, alone=is_locked)
    print("\n".join([*read_manifest(rows).summary(), f"rows: {rows}"]))


def _ranks() -> int:
    """How many processes SLURM's srun started together with this one; 1 in a batch script, whatever it was granted."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))


def _address(output: Path) -> Path:
    """Where the processes of this step, and of no other, find the first one of them."""
    step = [os.environ.get(f"SLURM_{name}", "0") for name in ("JOB_ID", "RESTART_COUNT", "STEP_ID")]
    return output.with_name(f".{output.name}.address.{'.'.join(step)}")
