"""What the folder of a run holds, of mid-training and of post-training, and which process writes it."""

import os
import warnings
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only

CONFIG = "config.yaml"
"""All settings, resolved."""
RECORD = "run.json"
"""Where the run's numbers come from: command, versions, data and results."""
POLICY = "policy"
"""The policy's config and tokenizer, with which a checkpoint becomes a Hugging Face model."""
MODEL = "model"
"""The trained model as a Hugging Face directory."""
METRICS = "metrics.csv"
"""The figures of each logged step."""
TIDY_METRICS = "tidy_metrics.csv"
"""The same, a line for each value."""
EVALUATION = "evaluation.json"
"""Of a run that measured tasks itself when training ended: what `evaluate` would have found."""
REPORT = "report.html"
"""What was logged and found, as a page."""
CHECKPOINTS = "checkpoints"
"""A directory for each checkpoint, and the link ``last.ckpt``."""


# As Lightning looks for it: SLURM_PROCID is there also where SLURM started no processes of its own.
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def global_rank() -> int:
    """Rank of this process over all nodes, by the launcher's environment; only rank 0 writes the folder.

    It is known before there is a process group, and before Lightning is imported, which takes seconds; 0 where there is
    one process.
    """
    lightning: Any = rank_zero_only
    known = getattr(lightning, "rank", None)
    return int(next((os.environ[name] for name in _RANKS if name in os.environ), 0) if known is None else known)


def warn(message: str) -> None:
    """Warn, in the process that writes the folder only."""
    if global_rank() == 0:
        warnings.warn(message, stacklevel=3)
