"""One stage from loaded examples to a trained model in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainerCallback

from remit_lit.posttraining.held_out import HeldOut, check_held_out
from remit_lit.posttraining.stage import Stage, Training


class Trained(NamedTuple):
    """What a stage did.

    Attributes:
        trainer: TRL's, finished; its model is in evaluation mode.
        examples: that were trained on.
        dropped: examples that were left out, by the reason.
    """

    trainer: Trainer
    examples: int
    dropped: dict[str, int]


def train(
    stage: Stage,
    training: Training,
    examples: Dataset,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    output: Path,
    seed: int,
    *,
    held_out: Sequence[HeldOut] = (),
    callbacks: Sequence[TrainerCallback] = (),
    checkpoint: Path | None = None,
    start: dict[str, object] | None = None,
) -> Trained:
    """Train ``model`` in place.

    Args:
        stage: which one.
        training: how.
        examples: as the stage wants them.
        model: any causal language model.
        tokenizer: its own; gets a padding token if it has none.
        output: directory of TRL's checkpoints.
        seed: of the order of examples and the samples.
        held_out: problems that must not be among the examples.
        callbacks: added to TRL's own.
        checkpoint: of TRL, to go on from.
        start: arguments with which TRL loads the model at the start again, where the stage needs it.

    Raises:
        ConfigError: model, tokenizer and settings do not fit each other.
        DataError: the examples are not what the stage needs, or one is held out.
    """
    check_held_out(examples, held_out)
    prepared = stage.prepare(examples, model, tokenizer, seed)
    config = stage.config(training, output, seed, prepared.window, "messages" in prepared.rows.column_names)
    if start and stage.needs_start:
        config.model_init_kwargs = start
    trainer = stage.trainer(model, tokenizer, prepared.rows, config)
    trainer.remove_callback(PrinterCallback)
    for callback in callbacks:
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    assert trainer.model is not None
    trainer.model.eval()
    return Trained(trainer, len(prepared.rows), prepared.dropped)
