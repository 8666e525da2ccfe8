"""What libraries say in a run that tells its user nothing."""

import logging
import os
import warnings

import torch

_IGNORED_WARNINGS = (
    "args parameter is intended to run from within Python",  # `main(args)` may be called from Python
    "set_vital",  # an old name inside torchdata
    "`isinstance\\(treespec, LeafSpec\\)`",  # an old name inside Lightning
    "Total length of `list` across ranks is zero",  # rows without a validation split
    "directory .* exists and is not empty",  # whether a run may go there has been checked
    "`torch\\.distributed\\..*` is deprecated",  # old names inside DeepSpeed
    "The `srun` command is available",  # on a login node, where most runs are meant to be what they are
    "It is recommended to use .*sync_dist=True",  # validation losses are reduced before they are logged
)

_IGNORED_LINES = (
    "Tip: For seamless cloud",
    "`weights_only` was not set",  # CheckpointFiles reads nothing that could run code, whatever Lightning asks for
    "TPU available: False",
    "GPU available: False",
    "`Trainer.fit` stopped: `max_steps=",  # the planned end, which the summary tells; it would stand beside the bar
)


def silence_libraries() -> None:
    """Leave it out, of warnings and of Lightning's log."""
    if not torch.accelerator.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # which DeepSpeed would find out with a warning
    for message in _IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=f".*{message}")
    for module in ("utilities.rank_zero", "trainer.connectors.checkpoint_connector"):
        logging.getLogger(f"lightning.pytorch.{module}").addFilter(_is_worth_showing)


def _is_worth_showing(record: logging.LogRecord) -> bool:
    return not any(words in record.getMessage() for words in _IGNORED_LINES)
