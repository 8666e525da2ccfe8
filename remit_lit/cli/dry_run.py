"""``fit --dry_run``: the whole path of a run in small, so that what would stop it after hours stops it now."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from remit_lit.runs.folder import global_rank

_SMALL = (
    "--trainer.limit_val_batches=1",
    "--trainer.log_every_n_steps=1",
    "--checkpoint.every_n_train_steps=1",
    "--checkpoint.at_end=true",
    "--allow_change=trainer.max_steps",
    "--dry_run=false",
    "--report=false",
)

SHORT = "REMIT_LIT_SHORT"
"""The environment variable that has callbacks with a method ``shorten`` measure a few items only."""


def dry_run(arguments: Sequence[str], run_dir: str) -> None:
    """Train one step and write a checkpoint; go on from it for another; remove what that left behind.

    Each part is a process of its own, as after an interruption.

    Args:
        arguments: of ``fit``.
        run_dir: of the real run, which is not touched.

    Raises:
        SystemExit: with the exit code of the part that failed.
    """
    trial = Path(f"{run_dir}.dry-run")
    kept = [argument for argument in arguments if not argument.startswith("--dry_run")]
    start = time.perf_counter()
    for what, extra in (
        ("a step and its checkpoint", ["--trainer.max_steps=1", "--overwrite=true"]),
        ("another step from that checkpoint", ["--trainer.max_steps=2", "--ckpt_path=last"]),
    ):
        command = [sys.executable, "-m", "remit_lit", *kept, *_SMALL, f"--run_dir={trial}", *extra]
        code = subprocess.run(command, env={**os.environ, SHORT: "1"}, check=False).returncode
        if code:
            _say(f"{what}: failed (exit code {code}); its files are kept in {trial}")
            raise SystemExit(code)
        _say(f"{what}: ok ({time.perf_counter() - start:.0f} s)")
    if global_rank() == 0:
        shutil.rmtree(trial, ignore_errors=True)


def _say(message: str) -> None:
    if global_rank() == 0:
        print(f"dry run: {message}")
