"""MiniPLM, difference sampling (arXiv:2410.17215)."""

from typing import ClassVar

import torch
from torch import Tensor

from remit_lit.errors import NonFiniteError, require_range
from remit_lit.weighting.base import RowScores, TokenSignals, TokenWeighting


class MiniPLM(TokenWeighting):
    """Keep the rows that the reference finds easier than the base does; train on them with weight 1.

    ``score = mean base_nll - mean reference_nll`` per row (the difference that the authors' code takes); the top
    ``keep`` share of rows by score, in corpus order. Of equal scores the earlier row is kept.

    Args:
        keep: share of rows kept, in (0, 1]. The authors' code keeps 0.5 (100B tokens of which 50B are trained on); the
            ReMiT paper's comparison 0.8 (arXiv:2602.03075, section 5.1). Prepare 1 / keep times the tokens of the run.
    """

    selects_rows: ClassVar[bool] = True

    def __init__(self, keep: float = 0.5) -> None:
        require_range("MiniPLM.keep", keep, 0.0, 1.0)
        self.keep = keep

    def weights(self, signals: TokenSignals) -> Tensor:
        """1 where a token counts, 0 elsewhere, float32 [batch, time]."""
        return signals.mask.float()

    def rows_kept(self, num_rows: int) -> int:
        return max(1, int(self.keep * num_rows + 0.5))

    def select_rows(self, scores: RowScores) -> Tensor:
        """Ascending indices of the kept rows, int64 [kept]; at least one row is kept.

        Raises:
            NonFiniteError: a NaN or infinite score; names the rows.
        """
        difference = scores.difference
        broken = (~torch.isfinite(difference)).nonzero().flatten().tolist()
        if broken:
            raise NonFiniteError(f"row scores: NaN or infinite in {len(broken)} row(s), the first of them {broken[:8]}")
        kept = self.rows_kept(len(difference))
        return difference.argsort(descending=True, stable=True)[:kept].sort().values
