"""SFT: supervised fine-tuning on answers, by TRL's SFTTrainer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from remit_lit.errors import ConfigError, DataError
from remit_lit.posttraining.example_format import (
    OnTooLong,
    chat_ids,
    keep_short,
    require_columns,
    require_text,
    resolve_max_length,
    template_columns,
)
from remit_lit.posttraining.stage import Prepared, Stage


@dataclass
class SFT(Stage):
    """Next-token prediction of the answers alone, including their EOS or end of turn.

    The data have ``prompt`` and ``completion``, as text or as messages; or ``messages``, of which every message of the
    assistant is an answer. For the latter the chat template must mark the answers with ``{% generation %}``, or be one
    for which TRL has a version that does.

    Attributes:
        packing: put several examples into each sequence of max_length tokens, where they do not attend to each other;
            saves time when examples are short.
        max_length: the longest example, prompt and answer together, in tokens; null allows as many as the model has
            positions. Lower it to save memory.
        on_too_long: what to do with longer examples: "drop" counts them and leaves them out, "refuse" ends the run.
            They are never cut, since an answer without its end would teach the model not to stop.
    """

    packing: bool = False
    max_length: int | None = None
    on_too_long: OnTooLong = "drop"

    trl_config = "trl.trainer.sft_config:SFTConfig"

    def prepare(
        self, examples: Dataset, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> Prepared:
        max_length = resolve_max_length(model, self.max_length)
        columns = require_columns(examples, ("prompt", "completion"), ("messages",))
        require_text(examples, columns, tokenizer)
        if columns == ("messages",):
            _require_answers(examples, tokenizer)
        kept, longer = keep_short(
            examples.select_columns([*columns, *template_columns(examples)]),
            lambda example: _tokens(example, tokenizer),
            max_length,
            self.on_too_long,
        )
        return Prepared(kept, {"too_long": longer}, max_length)

    def trl_fields(self, max_length: int, messages: bool) -> dict[str, Any]:
        return {
            "max_length": max_length,
            "packing": self.packing,
            "completion_only_loss": not messages,
            "assistant_only_loss": messages,
        }

    def trainer(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: Dataset, config: Any
    ) -> Trainer:
        from trl.trainer.sft_trainer import SFTTrainer

        return SFTTrainer(model=model, args=config, train_dataset=examples, processing_class=tokenizer)


def _tokens(example: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of an example: prompt and answer with their special tokens."""
    if "messages" not in example and isinstance(example["prompt"], str):
        text = example["prompt"] + example["completion"]
        ending = "" if text.endswith(tokenizer.eos_token) else tokenizer.eos_token
        return len(tokenizer(text + ending)["input_ids"])
    conversation = example["messages"] if "messages" in example else example["prompt"] + example["completion"]
    return len(chat_ids(tokenizer, conversation, example))


def _require_answers(examples: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
    from trl.chat_template_utils import get_training_chat_template, has_generation_markers

    for index, messages in enumerate(examples["messages"]):
        if not any(message["role"] == "assistant" for message in messages):
            raise DataError(
                f"data: example {index} has no message of the assistant, so there is nothing to learn from it"
            )
    try:
        if not has_generation_markers(tokenizer.chat_template):
            get_training_chat_template(tokenizer)
    except ValueError as error:
        raise ConfigError(
            "chat_template: the template does not mark the assistant's answers, which alone are trained on; put them "
            "between {% generation %} and {% endgeneration %} in a Jinja file and give it with --chat_template=FILE"
        ) from error
