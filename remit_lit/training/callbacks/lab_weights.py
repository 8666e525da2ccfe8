"""Which of the lab's tokens a strategy weighs: by what they are, which only the lab knows."""

from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from remit_lit.data.batch import Batch
from remit_lit.lab.targets import target_kinds
from remit_lit.lab.task import OPERATORS, TokenKind
from remit_lit.lab.tokenizer import check_lab_tokenizer
from remit_lit.training.callbacks import mid_training
from remit_lit.training.window import is_logging_step

_SOURCES = ("web", "noise")


def mean_weights(weights: Tensor, targets: Tensor, source_ids: Tensor, sources: list[str]) -> dict[str, float]:
    """The mean weight of each kind of token, of hard selection the share kept, by the name under which it is logged.

    Kinds in task documents are named as in :class:`remit_lit.lab.task.TokenKind`, in lower case, those of sources
    ``web`` and ``noise`` like the source; ``operator_0`` to ``operator_5`` are the correct results of traces by the
    rank of their operator, 0 for the most frequent. What a batch has none of is left out.

    Args:
        weights: [batch, time].
        targets: int64 [batch, time], negative where there is none.
        source_ids: index of each target's source, int64 [batch, time].
        sources: their names.
    """
    kinds, operators = target_kinds(targets)
    chosen = {kind.name.lower(): kinds == kind for kind in TokenKind}
    chosen |= {name: (source_ids == sources.index(name)) & (targets >= 0) for name in _SOURCES if name in sources}
    right = kinds == TokenKind.CORRECT_RESULT
    chosen |= {f"operator_{rank}": right & (operators == rank) for rank in range(len(OPERATORS))}
    return {name: weights[where].mean().item() for name, where in chosen.items() if where.any()}


class LabWeights(pl.Callback):
    """Log :func:`mean_weights` as ``lab/weight_*`` every ``trainer.log_every_n_steps`` steps, for rows of the lab.

    Raises:
        ConfigError: when a run starts, the policy's tokenizer is not the lab's.
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        tokenizer = mid_training(pl_module).tokenizer
        assert tokenizer is not None
        check_lab_tokenizer(tokenizer, "trainer.callbacks.LabWeights")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        module = mid_training(pl_module)
        if module.last_loss is None or not is_logging_step(trainer, batch_idx):
            return
        sources = list(module.data.manifest.sources["train"])
        found = mean_weights(module.last_loss.weights, batch.targets, batch.source_ids, sources)
        module.log_dict({f"lab/weight_{name}": value for name, value in found.items()})
