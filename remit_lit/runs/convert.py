"""``convert``: a ZeRO checkpoint of stage 1 or 2 into one that any number of ranks can resume from."""

import argparse
import contextlib
import io
from pathlib import Path

from remit_lit.errors import ConfigError, DataError
from remit_lit.runs.checkpoint import begin, discard, finish, verify
from remit_lit.runs.lock import held
from remit_lit.runs.weights import ENGINE

UNIVERSAL = "universal"
_WORKERS = 2


def convert(checkpoint: str) -> Path:
    """Put the shards of a ZeRO checkpoint together parameter by parameter (DeepSpeed's universal checkpoint).

    Args:
        checkpoint: directory of a checkpoint in a run folder, or the link last.ckpt.

    Returns:
        ``run_dir/universal/step-...``, for ``--ckpt_path`` with another number of devices and the same global batch.

    Raises:
        ConfigError: there is no checkpoint, it is not of ZeRO stage 1 or 2, another command writes the run folder, or
            DeepSpeed is not installed.
        DataError: it is damaged, or DeepSpeed cannot convert it.
    """
    path = Path(checkpoint).resolve()
    facts = verify(path)
    if facts.get("engine") == "zero3":
        # DeepSpeed 0.19.8 restores other optimizer states then: with AdamW the loss was off by 7e-4 after three steps.
        raise ConfigError(
            f"checkpoint: {path} was written at stage 3 of ZeRO, which cannot be converted exactly; resume with the "
            "same number of ranks, or export it and start a new run from the weights"
        )
    if facts.get("engine") not in ("zero1", "zero2"):
        raise ConfigError(
            f"checkpoint: {path} was written by {facts.get('engine')}; any number of ranks can resume from it as it is"
        )
    try:
        from deepspeed.checkpoint import ds_to_universal
    except ImportError as error:
        raise ConfigError(f"checkpoint: {path} needs DeepSpeed; pip install 'remit_lit[deepspeed]'") from error
    run = path.parent.parent
    output = run / UNIVERSAL / path.name
    with held("checkpoint", run):  # a fit there might remove the checkpoint meanwhile
        aside = begin(output)
        arguments = argparse.Namespace(
            input_folder=str(path / ENGINE),
            output_folder=str(aside / ENGINE),
            num_extract_workers=_WORKERS,
            num_merge_workers=_WORKERS,
            keep_temp_folder=False,
            strict=True,
            inject_missing_state=True,
        )
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints every file and its arguments
                ds_to_universal.main(arguments)
        except Exception as error:
            discard(output)
            raise DataError(f"checkpoint: {path} cannot be converted ({error})") from error
        finish(output, {**{name: value for name, value in facts.items() if name != "files"}, "engine": UNIVERSAL})
    return output
