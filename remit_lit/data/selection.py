"""Offline row choice (MiniPLM): row means under two frozen models, then the strategy's ``select_rows``."""

from typing import Any

import numpy as np
import torch

from remit_lit.data.rows import Collate, PackedRows, batch_to
from remit_lit.reference import Reference
from remit_lit.weighting import RowScores, TokenWeighting


def select(
    weighting: TokenWeighting,
    base: Reference,
    reference: Reference,
    packed: PackedRows,
    collate: Collate,
    batch_size: int,
    device: torch.device,
) -> np.ndarray | None:
    """Rows to train on, ascending, int64 [kept]; None keeps all.

    Args:
        weighting: the strategy that chooses.
        base: the model before mid-training.
        reference: the RL-tuned model.
        packed: the training rows, with the columns that ``base`` and ``reference`` read.
        collate: rows to batches.
        batch_size: rows at a time.
        device: where live models run.
    """
    base_means, reference_means = [], []
    for start in range(0, len(packed), batch_size):
        batch = batch_to(collate([packed[row] for row in range(start, min(start + batch_size, len(packed)))]), device)
        base_means.append(_row_means(base, batch))
        reference_means.append(_row_means(reference, batch))
    chosen = weighting.select_rows(RowScores(torch.cat(base_means), torch.cat(reference_means)))
    return None if chosen is None else chosen.cpu().numpy()


def _row_means(reference: Reference, batch: dict[str, Any]) -> torch.Tensor:
    counted = batch["targets"] >= 0
    sums = torch.where(counted, reference.nll(batch), 0).sum(1, dtype=torch.float64)
    return (sums / counted.sum(1).clamp(min=1)).cpu()
