"""A stage of post-training: what the three have in common, and the fields of their optimisation."""

import dataclasses
import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainerCallback

from remit_lit.errors import ConfigError, require_range


@dataclass
class Training:
    """How a stage optimises, with AdamW.

    Attributes:
        learning_rate: peak.
        batch_size: rows of a device and micro-step: examples (SFT), pairs (DPO), completions (RLVR).
        epochs: passes over the data.
        steps: optimizer steps; null: as many as the epochs have.
        accumulate: micro-steps of an optimizer step.
        schedule: of the learning rate, by its name in transformers, e.g. linear, constant, cosine_with_min_lr.
        schedule_options: of that schedule, e.g. ``{min_lr_rate: 0.1}``.
        warmup: steps with a rising rate; below 1, their share of all.
        beta2: of AdamW.
        weight_decay: of AdamW.
        gradient_clip: largest norm of the gradient; 0: any.
        precision: 32-true, or bf16-mixed: autocast, with weights and optimizer in the model's dtype.
        accelerator: auto takes a GPU where there is one; or cpu.
        activation_checkpointing: compute activations again in the backward pass.
        save_steps: steps between checkpoints to resume from; null writes none.
        log_steps: steps between lines of the log.
        trl: more values of TRL's config by its own names, e.g. ``{use_vllm: true}`` or ``{report_to: [wandb]}``; none
            that this kit sets.
    """

    learning_rate: float
    batch_size: int
    epochs: float = 1.0
    steps: int | None = None
    accumulate: int = 1
    schedule: str = "linear"
    schedule_options: dict[str, Any] | None = None
    warmup: float = 0.0
    beta2: float = 0.999
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu"] = "auto"
    activation_checkpointing: bool = False
    save_steps: int | None = 500
    log_steps: int = 10
    trl: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raise ConfigError for a number out of its range."""
        infinity = float("inf")
        require_range("training.learning_rate", self.learning_rate, 0.0, infinity)
        require_range("training.epochs", self.epochs, 0.0, infinity)
        require_range("training.warmup", self.warmup, 0.0, infinity, include_low=True)
        require_range("training.beta2", self.beta2, 0.0, 1.0, include_low=True)
        require_range("training.weight_decay", self.weight_decay, 0.0, infinity, include_low=True)
        require_range("training.gradient_clip", self.gradient_clip, 0.0, infinity, include_low=True)
        for name in ("batch_size", "accumulate", "steps", "save_steps", "log_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"training.{name}: got {value}; give at least 1")

    def settings(self, output: Path, seed: int) -> dict[str, Any]:
        """The values of TRL's config that follow from these fields."""
        return {
            "output_dir": str(output),
            "seed": seed,
            "learning_rate": self.learning_rate,
            "per_device_train_batch_size": self.batch_size,
            "num_train_epochs": self.epochs,
            "max_steps": -1 if self.steps is None else self.steps,
            "gradient_accumulation_steps": self.accumulate,
            "lr_scheduler_type": self.schedule,
            "lr_scheduler_kwargs": self.schedule_options,
            "warmup_steps": self.warmup,
            "adam_beta2": self.beta2,
            "weight_decay": self.weight_decay,
            "max_grad_norm": self.gradient_clip,
            "bf16": self.precision == "bf16-mixed",
            "use_cpu": self.accelerator == "cpu",
            "gradient_checkpointing": self.activation_checkpointing,
            "save_strategy": "no" if self.save_steps is None else "steps",
            "save_steps": self.save_steps or 500,
            "save_total_limit": 2,
            "logging_strategy": "steps",
            "logging_steps": self.log_steps,
            "logging_nan_inf_filter": False,
            "disable_tqdm": True,
        }


class Prepared(NamedTuple):
    """Rows for the trainer.

    Attributes:
        rows: with the columns that the trainer reads.
        dropped: examples that were left out, by the reason.
        window: tokens of the longest row that the model reads.
    """

    rows: Dataset
    dropped: dict[str, int]
    window: int


class Stage(ABC):
    """One of SFT, DPO and RLVR, by the TRL trainer of its name."""

    trl_config: str  # module:class

    @property
    def needs_start(self) -> bool:
        """Whether TRL loads the model at the start a second time, as a frozen reference."""
        return False

    def check(self, training: Training) -> None:
        """Refuse settings that cannot work, without a model.

        Raises:
            ConfigError: naming the field; or TRL is not installed.
        """
        training.check()
        self.config(training, Path(), 0, window=1, messages=False)

    @abstractmethod
    def prepare(
        self, examples: Dataset, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> Prepared:
        """Rows of ``examples`` that the model can read, and counts of the others.

        Raises:
            ConfigError: the tokenizer lacks what they need.
            DataError: a column is missing or malformed, or nothing is left.
        """

    @abstractmethod
    def settings(self, window: int, messages: bool) -> dict[str, Any]:
        """The values of TRL's config that this stage decides; ``messages``: the rows are conversations."""

    @abstractmethod
    def trainer(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Dataset, config: Any
    ) -> Trainer:
        """TRL's trainer."""

    def results(self) -> dict[str, float]:
        """Figures of the stage's own, since this process began to train."""
        return {}

    def config(self, training: Training, output: Path, seed: int, window: int, messages: bool) -> Any:
        """TRL's config of this stage.

        Raises:
            ConfigError: ``training.trl`` names what is set here, or nothing of TRL's; or TRL refuses the values.
        """
        module, name = self.trl_config.split(":")
        try:
            known = getattr(importlib.import_module(module), name)
        except ImportError as error:
            raise ConfigError(f"stage: {error.name} is not installed; pip install 'remit_lit[posttrain]'") from error
        ours = {**training.settings(output, seed), **self.settings(window, messages)}
        if training.trl.get("use_vllm") and importlib.util.find_spec("vllm") is None:
            raise ConfigError(
                "training.trl.use_vllm: vLLM is not installed; pip install 'remit_lit[vllm]', or give false"
            )
        for option in training.trl:
            if option in ours:
                raise ConfigError(f"training.trl: {option} is set by this kit's own fields; use those")
            if option not in {entry.name for entry in dataclasses.fields(known)}:
                raise ConfigError(f"training.trl: {name} of TRL has no field {option!r}")
        try:
            return known(**ours, **training.trl)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"training: TRL's {name} refuses it: {error}") from error


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
