"""What the stages require of examples: their columns, text or messages, and a length that the model can read."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from remit_lit.errors import ConfigError, DataError

OnTooLong = Literal["drop", "refuse"]


def resolve_max_length(model: PreTrainedModel, max_length: int | None) -> int:
    """Tokens that an example may have: ``max_length``, or as many as the model has positions.

    Raises:
        ConfigError: ``max_length`` is more than that, or there is neither.
    """
    positions = positions_of(model)
    if max_length is not None and positions is not None and max_length > positions:
        raise ConfigError(f"stage.max_length: got {max_length}; this model reads at most {positions} tokens")
    longest = max_length or positions
    if longest is None:
        raise ConfigError(
            "stage.max_length: got null, but the model's config has no max_position_embeddings to take it from; give "
            "the length of the longest example in tokens"
        )
    return longest


def positions_of(model: PreTrainedModel) -> int | None:
    """Tokens that the model can read at most; None where its config does not say."""
    positions: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return positions


def require_columns(examples: Dataset, *alternatives: tuple[str, ...]) -> tuple[str, ...]:
    """The first of ``alternatives`` whose columns ``examples`` all has.

    Raises:
        DataError: there is none.
    """
    for columns in alternatives:
        if set(columns) <= set(examples.column_names):
            return columns
    required = ", or ".join(" and ".join(columns) for columns in alternatives)
    raise DataError(
        f"data: the columns are {examples.column_names}, but the stage needs {required}; rename them with the field "
        "columns of the data"
    )


def require_text(examples: Dataset, columns: tuple[str, ...], tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether all ``columns`` hold messages; otherwise all hold text.

    Raises:
        DataError: an example holds neither, or the two are mixed.
        ConfigError: they hold messages, and the tokenizer has no chat template.
    """
    kinds = set()
    for index, example in enumerate(examples.select_columns(list(columns))):
        for column, value in example.items():
            if not isinstance(value, str) and not (isinstance(value, list) and value and _are_messages(value)):
                raise DataError(
                    f"data: {column} of example {index} is {str(value)[:100]!r}; give text, or messages with role and "
                    "content"
                )
            kinds.add(type(value))
        if len(kinds) > 1:
            raise DataError(f"data: example {index} mixes text and messages; give all columns as one or the other")
    if kinds == {list} and not tokenizer.chat_template:
        raise ConfigError(
            "chat_template: the data are messages, but the tokenizer has no chat template; give a Jinja file with "
            "--chat_template=FILE, or data with prompt and completion as text"
        )
    return kinds == {list}


def keep_short(
    examples: Dataset, length: Callable[[Mapping[str, Any]], int], max_length: int, on_too_long: OnTooLong
) -> tuple[Dataset, int]:
    """Examples of at most ``max_length`` tokens by ``length``, and how many were longer.

    Raises:
        DataError: one is longer and ``on_too_long`` is refuse; or all are.
    """
    lengths = [length(example) for example in examples]
    short = [index for index, tokens in enumerate(lengths) if tokens <= max_length]
    longer = len(lengths) - len(short)
    if longer and (on_too_long == "refuse" or not short):
        first = next(index for index, tokens in enumerate(lengths) if tokens > max_length)
        raise DataError(
            f"data: {longer} of {len(lengths)} examples are longer than {max_length} tokens (the first is example "
            f"{first}, with {lengths[first]}); shorten them, raise max_length, or leave them out with on_too_long: drop"
        )
    return (examples.select(short) if longer else examples), longer


def with_prompts(examples: Dataset) -> Dataset:
    """``examples`` with a column ``prompt``: of ``messages``, all that come before the answers at the end.

    Raises:
        DataError: there is neither column.
    """
    if require_columns(examples, ("prompt",), ("messages",)) == ("prompt",):
        return examples
    return examples.map(lambda row: {"prompt": _without_last_answers(row["messages"])}, remove_columns="messages")


def _without_last_answers(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    end = len(messages)
    while end and messages[end - 1]["role"] == "assistant":
        end -= 1
    return messages[:end]


def template_columns(examples: Dataset) -> list[str]:
    """``chat_template_kwargs``, where examples have it: TRL passes its values to the chat template."""
    return [name for name in examples.column_names if name == "chat_template_kwargs"]


def chat_ids(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], example: Mapping[str, Any]
) -> list[int]:
    """Tokens of a whole conversation, by the chat template with the example's own values."""
    options = example.get("chat_template_kwargs") or {}
    encoded: Any = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **options)
    return list(encoded["input_ids"])


def _are_messages(value: list[Any]) -> bool:
    return all(isinstance(message, dict) and {"role", "content"} <= message.keys() for message in value)
