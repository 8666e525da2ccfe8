"""The loggers of a run: those of a config that names none, and what every logger is told."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from remit_lit.runs.folder import METRICS, global_rank

_FOUND = ("val/nll", "train/loss")  # curves that TensorBoard shows beside hyperparameters


def default_loggers(run_dir: str) -> list[Logger]:
    """CSV and TensorBoard in the run folder."""
    # Written at once: what is still in memory would be lost with the process.
    table = CSVLogger(run_dir, name="", version="", flush_logs_every_n_steps=1)
    return [table, TensorBoardLogger(run_dir, name="", version="")]


def keep_metrics(run_dir: Path) -> None:
    """Put the metrics of the interrupted part aside: a new CSVLogger starts the file anew."""
    metrics = run_dir / METRICS
    if global_rank() == 0 and metrics.exists():
        metrics.rename(run_dir / f"metrics-{len(list(run_dir.glob('metrics*.csv')))}.csv")


def log_hyperparameters(loggers: Sequence[Logger], changed: Mapping[str, Any]) -> None:
    """Tell all loggers the fields that differ from their defaults; the CSV's has ``config.yaml`` beside it."""
    from torch.utils.tensorboard.summary import hparams  # only in a run: the command line should not wait for it

    fields = {name: value if isinstance(value, (bool, int, float)) else str(value) for name, value in changed.items()}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            # Its own method would add a point to each curve that is named with them, or name none.
            writer = logger.experiment._get_file_writer()
            for summary in hparams(fields, dict.fromkeys(_FOUND, 0.0)):
                writer.add_summary(summary)
        elif not isinstance(logger, CSVLogger):
            logger.log_hyperparams(fields)
