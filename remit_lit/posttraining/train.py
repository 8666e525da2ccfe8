"""One stage from prepared rows to a trained model in memory, by TRL."""

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainerCallback

from remit_lit.posttraining.stage import Prepared, Stage, Training


def train(
    stage: Stage,
    training: Training,
    prepared: Prepared,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    output: Path,
    seed: int,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    checkpoint: Path | None = None,
    start: dict[str, object] | None = None,
) -> Trainer:
    """Train ``model`` in place; TRL's trainer, finished, with its model in evaluation mode.

    Args:
        stage: which one.
        training: how.
        prepared: by the stage, for this model and tokenizer.
        model: any causal language model.
        tokenizer: its own; gets a padding token if it has none.
        output: directory of TRL's checkpoints.
        seed: of the order of examples and the samples.
        callbacks: added to TRL's own.
        checkpoint: of TRL, to go on from.
        start: arguments with which TRL loads the model at the start again, where the stage needs it.

    Raises:
        ConfigError: model, tokenizer and settings do not fit each other.
        DataError: there are too few rows for a step.
    """
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
    return trainer
