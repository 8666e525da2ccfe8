"""What a strategy does to a batch: statistics of the weights and of the losses that they weigh."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from remit_lit.data.batch import Batch
from remit_lit.training.callbacks import mid_training
from remit_lit.training.objective import WeightedLoss
from remit_lit.training.window import is_logging_step
from remit_lit.weighting import TokenWeighting


def weight_statistics(loss: WeightedLoss, weighting: TokenWeighting) -> dict[str, Tensor]:
    """Statistics of one micro-batch over counted tokens; losses in nats.

    ``effective_share`` is ``(sum w)^2 / (n sum w^2)``: the share of equally weighted tokens that carries as much
    information. ``kl_to_data`` is ``KL(w * data / Z || data)``, how far the weighted target is from the corpus.
    ``clipped_low`` and ``clipped_high`` are the shares of ranked tokens at the strategy's bounds. ``row_delta_mean``
    is the mean over rows of a row's mean excess loss, and ``row_delta_std`` its spread.
    """
    mask, ranked = loss.signals.mask, loss.signals.ranked
    weights = loss.weights[mask].double()
    n, total, squares = weights.numel(), weights.sum(), weights.square().sum()
    relative = weights / weights.mean()
    statistics = {
        "weights/mean": weights.mean(),
        "weights/std": weights.std(correction=0),
        "weights/effective_share": total.square() / (n * squares),
        "weights/kl_to_data": torch.special.xlogy(relative, relative).mean(),
        "train/nll": loss.nll[mask].mean(),
        "train/nll_content": loss.nll[ranked].mean(),
        "train/nll_special": loss.nll[mask & ~ranked].mean(),
    }
    if loss.signals.reference_nll is not None:
        excess = loss.signals.excess_loss() * ranked  # [batch, time]
        rows = excess.sum(1) / ranked.sum(1).clamp(min=1)
        statistics["weights/excess_loss"] = excess.sum() / ranked.sum()
        statistics["weights/row_delta_mean"] = rows.mean()
        statistics["weights/row_delta_std"] = rows.std(correction=0)
    if weighting.bounds is not None:
        low, high = (torch.tensor(bound, dtype=loss.weights.dtype) for bound in weighting.bounds)
        statistics["weights/clipped_low"] = (loss.weights[ranked] <= low).double().mean()
        statistics["weights/clipped_high"] = (loss.weights[ranked] >= high).double().mean()
    return {name: value for name, value in statistics.items() if torch.isfinite(value)}


class WeightStatistics(pl.Callback):
    """Log :func:`weight_statistics` and the training NLL of each source every ``trainer.log_every_n_steps`` steps."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        module = mid_training(pl_module)
        loss = module.last_loss
        if loss is None or not is_logging_step(trainer, batch_idx):
            return
        module.log_dict({name: v.float() for name, v in weight_statistics(loss, module.weighting).items()})
        for index, source in enumerate(module.data.manifest.sources["train"]):
            chosen = loss.signals.mask & (batch.source_ids == index)
            if chosen.any():
                module.log(f"train/nll/{source}", loss.nll[chosen].mean())
