"""Offline row choice (MiniPLM): row means under two frozen models, the strategy's choice, and what it kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from remit_lit.data.progress_bar import progress
from remit_lit.data.rows import Collate, PackedRows
from remit_lit.reference.reference import Reference
from remit_lit.weighting import RowScores, TokenWeighting

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Choice:
    """Rows that a strategy chose, and a report of them.

    Attributes:
        rows: ascending, int64 [kept].
        num_rows: that it chose from.
        sources: per source, tokens that count in the loss: all and kept.
        quantiles: of ``base_nll - reference_nll`` of a row, nats per token: share of rows below, of all and of kept.
    """

    rows: np.ndarray
    num_rows: int
    sources: dict[str, dict[str, int]]
    quantiles: dict[str, dict[str, float]]

    def summary(self) -> list[str]:
        """The report, a line each."""
        return [
            f"{len(self.rows):,} of {self.num_rows:,} rows kept ({len(self.rows) / self.num_rows:.1%})",
            *(
                f"  {name}: {tokens['kept']:,} of {tokens['all']:,} tokens kept ({tokens['kept'] / tokens['all']:.1%})"
                for name, tokens in self.sources.items()
                if tokens["all"]
            ),
            "  base nll - reference nll of a row, nats per token; quantiles:",
            "        " + "".join(f"{quantile:>9.0%}" for quantile in _QUANTILES),
            *(
                f"    {which:<4}" + "".join(f"{value:>+9.4f}" for value in values.values())
                for which, values in self.quantiles.items()
            ),
        ]


def choose(
    weighting: TokenWeighting,
    base: Reference,
    reference: Reference,
    packed: PackedRows,
    sources: Sequence[str],
    collate: Collate,
    batch_size: int,
    device: torch.device,
) -> Choice | None:
    """Rows to train on; None keeps all.

    Args:
        weighting: the strategy that chooses.
        base: the model before mid-training.
        reference: the RL-tuned model.
        packed: the training rows, with the columns that ``base`` and ``reference`` read.
        sources: names that the rows' source ids index.
        collate: rows to batches.
        batch_size: rows at a time.
        device: where live models run.
    """
    base_means: list[Tensor] = []
    reference_means: list[Tensor] = []
    counts = []
    with progress("scoring rows", len(packed), "row") as bar:
        for start in range(0, len(packed), batch_size):
            rows = range(start, min(start + batch_size, len(packed)))
            batch = collate([packed[row] for row in rows]).to(device)
            mask = batch.mask
            for model, means in ((base, base_means), (reference, reference_means)):
                nll = model.nll(batch)
                model.require_finite(nll, batch)
                means.append(_row_means(nll, mask))
            of_source = [(mask & (batch.source_ids == source)).sum(1) for source in range(len(sources))]
            counts.append(torch.stack(of_source, dim=1).cpu())
            bar.update(len(rows))
    scores = RowScores(torch.cat(base_means), torch.cat(reference_means))
    chosen = weighting.select_rows(scores)
    if chosen is None:
        return None
    kept, tokens = chosen.cpu(), torch.cat(counts)  # [rows, sources]
    return Choice(
        rows=kept.numpy(),
        num_rows=len(packed),
        sources={
            name: {"all": int(tokens[:, i].sum()), "kept": int(tokens[kept, i].sum())} for i, name in enumerate(sources)
        },
        quantiles={"all": _quantiles(scores.difference), "kept": _quantiles(scores.difference[kept])},
    )


def _row_means(nll: Tensor, mask: Tensor) -> Tensor:
    """Mean of each row over the tokens that count, nats, float64 [batch]."""
    sums = torch.where(mask, nll, 0).sum(1, dtype=torch.float64)
    return (sums / mask.sum(1).clamp(min=1)).cpu()


def _quantiles(values: Tensor) -> dict[str, float]:
    quantiles: Any = np.quantile(values.numpy(), _QUANTILES)
    return {f"{q:g}": float(value) for q, value in zip(_QUANTILES, quantiles, strict=True)}
