"""What a strategy does to tokens, for TensorBoard: a histogram of their weights, and the text of a few rows."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from remit_lit.data.batch import Batch
from remit_lit.training.callbacks import mid_training
from remit_lit.training.objective import WeightedLoss
from remit_lit.training.window import is_logging_step

_BINS, _ROWS, _TOKENS, _EXTREMES = 30, 3, 200, 8


class TokenWeights(pl.Callback):
    """Add to TensorBoard what curves cannot show; nothing where no logger is TensorBoard's.

    At each logged step a histogram of the weights of ranked tokens in this rank's micro-batch. At the first one, and
    at the first after each validation, the first document of three of its rows: its text, and the tokens that were
    weighed most and least.
    """

    def __init__(self) -> None:
        self._shows_text = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._shows_text = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        boards = [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        module = mid_training(pl_module)
        loss = module.last_loss
        if not boards or loss is None or not trainer.is_global_zero or not is_logging_step(trainer, batch_idx):
            return
        step = trainer.global_step - 1  # as Lightning counts where it logs
        weights = loss.weights[loss.signals.ranked].float().cpu()
        for board in boards:
            if len(weights):
                board.add_histogram("weights/tokens", weights, step, bins=_BINS)
            if self._shows_text:
                for place in range(min(_ROWS, len(batch.rows))):
                    board.add_text(f"rows/{place}", _described(loss, batch, place, module.tokenizer), step)
        self._shows_text = False


def _described(loss: WeightedLoss, batch: Batch, place: int, tokenizer: Any) -> str:
    """Markdown on the first document of a row."""
    mask = loss.signals.mask[place]
    documents = batch.segment_ids[place]
    first = mask & (documents == documents[mask][:1])
    tokens, weights = (values[place][first][:_TOKENS] for values in (batch.targets, loss.weights))
    text = tokenizer.decode(tokens.tolist())
    order = weights.float().argsort(stable=True)
    most, least = (_listed(tokens[chosen], weights[chosen], tokenizer) for chosen in (order.flip(0), order))
    block = "\n".join(f"    {line}" for line in text.splitlines())
    return f"Row {int(batch.rows[place])}, {len(tokens)} tokens\n\n{block}\n\nMost: {most}\n\nLeast: {least}"


def _listed(tokens: Tensor, weights: Tensor, tokenizer: Any) -> str:
    pairs = zip(tokens[:_EXTREMES].tolist(), weights[:_EXTREMES].tolist(), strict=True)
    return ", ".join(f"`{tokenizer.decode([token])!r}` {weight:.3f}" for token, weight in pairs)
