"""SFT: supervised fine-tuning on answers, by TRL's SFTTrainer."""

from collections.abc import Mapping
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
    template_columns,
    window_of,
)
from remit_lit.posttraining.stage import Prepared, Stage


class SFT(Stage):
    """Next-token prediction of the answers alone, their EOS or end of turn included.

    The data have ``prompt`` and ``completion``, as text or as messages; or ``messages``, of which every message of the
    assistant is an answer. For the latter the chat template must mark the answers with ``{% generation %}``, or be one
    that TRL knows such a version of.

    Args:
        packing: fill rows of ``max_length`` with several examples, which do not see each other.
        max_length: tokens of a row; null: as many as the model has positions.
        on_too_long: prompts and answers together longer than that are counted and left out ("drop"), or an error
            ("refuse"). They are not cut: an answer without its end would teach not to end.
    """

    trl_config = "trl.trainer.sft_config:SFTConfig"

    def __init__(self, packing: bool = False, max_length: int | None = None, on_too_long: OnTooLong = "drop") -> None:
        self.packing, self.max_length, self.on_too_long = packing, max_length, on_too_long

    def prepare(
        self, examples: Dataset, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> Prepared:
        window = window_of(model, self.max_length)
        columns = require_columns(examples, ("prompt", "completion"), ("messages",))
        require_text(examples, columns, tokenizer)
        if columns == ("messages",):
            _require_answers(examples, tokenizer)
        rows, longer = keep_short(
            examples.select_columns([*columns, *template_columns(examples)]),
            lambda row: _tokens(row, tokenizer),
            window,
            self.on_too_long,
        )
        return Prepared(rows, {"too_long": longer}, window)

    def settings(self, window: int, messages: bool) -> dict[str, Any]:
        return {
            "max_length": window,
            "packing": self.packing,
            "completion_only_loss": not messages,
            "assistant_only_loss": messages,
        }

    def trainer(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Dataset, config: Any
    ) -> Trainer:
        from trl.trainer.sft_trainer import SFTTrainer

        return SFTTrainer(model=model, args=config, train_dataset=rows, processing_class=tokenizer)


def _tokens(row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of a row, prompt and answer with their special tokens."""
    if "messages" not in row and isinstance(row["prompt"], str):
        text = row["prompt"] + row["completion"]
        ending = "" if text.endswith(tokenizer.eos_token) else tokenizer.eos_token
        return len(tokenizer(text + ending)["input_ids"])
    conversation = row["messages"] if "messages" in row else row["prompt"] + row["completion"]
    return len(chat_ids(tokenizer, conversation, row))


def _require_answers(examples: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
    from trl.chat_template_utils import get_training_chat_template, has_generation_markers

    for index, messages in enumerate(examples["messages"]):
        if not any(message["role"] == "assistant" for message in messages):
            raise DataError(f"data: example {index} has no message of the assistant, so there is nothing to learn")
    try:
        if not has_generation_markers(tokenizer.chat_template):
            get_training_chat_template(tokenizer)
    except ValueError as error:
        raise ConfigError(
            "chat_template: it does not mark the assistant's answers, on which alone the loss is; put them between "
            "{% generation %} and {% endgeneration %} in a Jinja file and give that with --chat_template=FILE"
        ) from error
