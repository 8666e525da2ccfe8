"""What the three stages of post-training share, and the fields of their optimisation."""

import dataclasses
import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainerCallback

from remit_lit.errors import ConfigError, did_you_mean, require_at_least, require_range
from remit_lit.runs.configuration import Configured

# Fields of TRL that need a package: its name, and what installs it.
_PACKAGES = {"use_vllm": ("vllm", "remit_lit[vllm]"), "use_liger_kernel": ("liger-kernel", "liger-kernel")}


@dataclass
class Training:
    """How a stage optimises, with AdamW.

    Attributes:
        learning_rate: the peak learning rate.
        batch_size: how many examples (SFT), pairs (DPO) or completions (RLVR) each device processes at a time; lower it
            when memory runs out.
        epochs: passes over the data; ignored where steps is given.
        steps: the number of optimizer steps; null trains for all epochs.
        accumulate: how many batches are accumulated for each optimizer step; raise it for a larger effective batch in
            the same memory.
        schedule: the learning-rate schedule by its name in transformers, e.g. linear, constant, cosine_with_min_lr.
        schedule_options: options of that schedule, e.g. ``{min_lr_rate: 0.1}``.
        warmup: the number of warm-up steps; a value below 1 is a share of all steps.
        beta2: AdamW's decay rate of the squared gradients.
        weight_decay: AdamW's weight decay.
        gradient_clip: the norm to which longer gradients are clipped; 0 does not clip.
        precision: 32-true, or bf16-mixed, which computes in bfloat16 and keeps weights and optimizer states in the
            model's dtype.
        accelerator: auto uses a GPU if there is one; cpu does not.
        activation_checkpointing: recompute activations in the backward pass, which saves memory and costs time.
        save_steps: optimizer steps between checkpoints to resume from; null writes none.
        log_steps: optimizer steps between lines of the log.
        trl: further fields of TRL's config by its own names, e.g. ``{use_vllm: true}`` or ``{report_to: [wandb]}``;
            fields that this kit sets itself are refused.
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
            require_at_least(f"training.{name}", getattr(self, name), 1)

    def trl_fields(self, output: Path, seed: int) -> dict[str, Any]:
        """The fields of TRL's config that follow from these."""
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
            # Said where there is no other device, too: without it accelerate finds no ranks on CPUs.
            "use_cpu": self.accelerator == "cpu" or not torch.accelerator.is_available(),
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
    """Examples for the trainer.

    Attributes:
        examples: with the columns that the trainer reads.
        dropped: how many examples were left out, by the reason.
        max_length: the longest example that the model may get, in tokens.
    """

    examples: Dataset
    dropped: dict[str, int]
    max_length: int


class Stage(Configured, ABC):
    """One of SFT, DPO and RLVR, each run by a trainer of TRL."""

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
        self.config(training, Path(), 0, max_length=1, messages=False)

    @abstractmethod
    def prepare(
        self, examples: Dataset, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> Prepared:
        """The ``examples`` that the model can read, and how many others there were.

        Raises:
            ConfigError: the tokenizer lacks what they need.
            DataError: a column is missing or malformed, or nothing is left.
        """

    @abstractmethod
    def trl_fields(self, max_length: int, messages: bool) -> dict[str, Any]:
        """The fields of TRL's config that this stage decides; ``messages``: the examples are conversations."""

    @abstractmethod
    def trainer(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: Dataset, config: Any
    ) -> Trainer:
        """TRL's trainer, ready to train ``model`` in place."""

    def results(self) -> dict[str, float]:
        """The stage's own figures, counted since this process began to train."""
        return {}

    def config(self, training: Training, output: Path, seed: int, max_length: int, messages: bool) -> Any:
        """TRL's config of this stage.

        Raises:
            ConfigError: ``training.trl`` names a field that is set here, or that TRL lacks; or TRL refuses the values.
        """
        module, name = self.trl_config.split(":")
        try:
            config_class = getattr(importlib.import_module(module), name)
        except ImportError as error:
            raise ConfigError(f"stage: {error.name} is not installed; pip install 'remit_lit[posttrain]'") from error
        ours = {**training.trl_fields(output, seed), **self.trl_fields(max_length, messages)}
        for option, (package, extra) in _PACKAGES.items():
            if training.trl.get(option) and importlib.util.find_spec(package.replace("-", "_")) is None:
                raise ConfigError(
                    f"training.trl.{option}: {package} is not installed; pip install '{extra}', or give false"
                )
        for option in training.trl:
            if option in ours:
                raise ConfigError(f"training.trl.{option}: follows from this kit's own fields; set those instead")
            known = [entry.name for entry in dataclasses.fields(config_class)]
            if option not in known:
                raise ConfigError(
                    f"training.trl.{option}: TRL's {name} has no field {option!r}; {did_you_mean(option, known)}"
                    "give one of its fields"
                )
        try:
            return config_class(**ours, **training.trl)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"training: TRL's {name} refuses these values: {error}") from error


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
    """Train ``model`` in place; return TRL's trainer, finished, with its model in evaluation mode.

    Args:
        stage: how to train.
        training: how to optimise.
        prepared: what the stage prepared for this model and tokenizer.
        model: any causal language model.
        tokenizer: the model's own; gets a padding token if it has none.
        output: the directory of TRL's checkpoints.
        seed: the seed of the order of the examples and of sampling.
        callbacks: added to TRL's own.
        checkpoint: a checkpoint of TRL to continue from.
        start: how TRL loads the starting model again, where the stage needs it as a reference.

    Raises:
        ConfigError: model, tokenizer and settings do not fit together.
        DataError: there are too few examples for a step.
    """
    messages = "messages" in prepared.examples.column_names
    config = stage.config(training, output, seed, prepared.max_length, messages)
    if start and stage.needs_start:
        config.model_init_kwargs = start
    trainer = stage.trainer(model, tokenizer, prepared.examples, config)
    trainer.remove_callback(PrinterCallback)
    for callback in callbacks:
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    assert trainer.model is not None
    trainer.model.eval()
    return trainer
