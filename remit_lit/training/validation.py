"""Validation losses: the mean NLL of each source, and of all tokens, over all ranks."""

from collections.abc import Sequence

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from remit_lit.data.batch import Batch


class SourceMeans(nn.ModuleList):
    """Mean NLL of each source of validation rows.

    Args:
        sources: their names, by index in the manifest.
    """

    def __init__(self, sources: Sequence[str] = ()) -> None:
        super().__init__(MeanMetric() for _ in sources)
        self.sources = list(sources)

    def update(self, nll: Tensor, batch: Batch) -> None:
        """Take in a batch's NLLs, [batch, time]."""
        for source, mean in enumerate(self._means()):
            mean.update(nll[batch.mask & (batch.source_ids == source)])

    def log(self, module: pl.LightningModule, prefix: str) -> None:
        """Log the means as ``PREFIX/nll/SOURCE``, and that of all tokens as ``PREFIX/nll``; then begin anew."""
        totals = [torch.stack([mean.mean_value, mean.weight]) for mean in self._means()]
        for name, mean in zip(self.sources, self._means(), strict=True):
            module.log(f"{prefix}/nll/{name}", mean.compute())
            mean.reset()
        if totals:
            sums, counts = module.trainer.strategy.reduce(torch.stack(totals), reduce_op="sum").sum(0)
            module.log(f"{prefix}/nll", sums / counts, prog_bar=True)

    def _means(self) -> list[MeanMetric]:
        return [mean for mean in self if isinstance(mean, MeanMetric)]
