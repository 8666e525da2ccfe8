"""What the stages ask of examples: their columns, text or messages, and a length that the model can read."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from remit_lit.errors import ConfigError, DataError

OnTooLong = Literal["drop", "refuse"]


def window_of(model: PreTrainedModel, given: int | None) -> int:
    """Tokens that a row may have: ``given``, or as many as the model has positions.

    Raises:
        ConfigError: ``given`` is more than that.
    """
    positions = positions_of(model)
    if given is None and positions is None:
        raise ConfigError("stage.max_length: the model names no max_position_embeddings; give the tokens of a row")
    if given is not None and positions is not None and given > positions:
        raise ConfigError(f"stage.max_length: got {given}; this model reads at most {positions} tokens")
    longest = given or positions
    assert longest is not None
    return longest


def positions_of(model: PreTrainedModel) -> int | None:
    """Tokens that the model can read at most; None where it does not say."""
    positions: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return positions


def require_columns(examples: Dataset, *choices: tuple[str, ...]) -> tuple[str, ...]:
    """The first of ``choices`` of which all columns are there.

    Raises:
        DataError: there is none.
    """
    for columns in choices:
        if set(columns) <= set(examples.column_names):
            return columns
    wanted = ", or ".join(" and ".join(columns) for columns in choices)
    raise DataError(
        f"data: has the columns {examples.column_names}; the stage needs {wanted} (see columns of the data)"
    )


def require_text(examples: Dataset, columns: tuple[str, ...], tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether ``columns`` hold messages, all of them; else they hold text.

    Raises:
        DataError: an example holds neither, or the two are mixed.
        ConfigError: they hold messages, and the tokenizer has no chat template.
    """
    kinds = set()
    for index, row in enumerate(examples.select_columns(list(columns))):
        for column, value in row.items():
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
    rows: Dataset, length: Callable[[Mapping[str, Any]], int], window: int, on_too_long: OnTooLong
) -> tuple[Dataset, int]:
    """Rows of at most ``window`` tokens, and how many were longer.

    Raises:
        DataError: one is longer and ``on_too_long`` is refuse; or all are.
    """
    lengths = [length(row) for row in rows]
    short = [index for index, tokens in enumerate(lengths) if tokens <= window]
    longer = len(lengths) - len(short)
    if longer and (on_too_long == "refuse" or not short):
        first = next(index for index, tokens in enumerate(lengths) if tokens > window)
        raise DataError(
            f"data: {longer} of {len(lengths)} examples are longer than {window} tokens, first example {first} with "
            f"{lengths[first]}; shorten them, raise max_length, or leave them out with on_too_long: drop"
        )
    return (rows.select(short) if longer else rows), longer


def with_prompts(examples: Dataset) -> Dataset:
    """``examples`` with ``prompt``: where they have ``messages`` instead, all before the answers at their end.

    Raises:
        DataError: there is neither.
    """
    if require_columns(examples, ("prompt",), ("messages",)) == ("prompt",):
        return examples
    return examples.map(lambda row: {"prompt": _asked(row["messages"])}, remove_columns="messages")


def _asked(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    end = len(messages)
    while end and messages[end - 1]["role"] == "assistant":
        end -= 1
    return messages[:end]


def template_columns(examples: Dataset) -> list[str]:
    """``chat_template_kwargs``, where examples have it: TRL gives its values to the chat template."""
    return [name for name in examples.column_names if name == "chat_template_kwargs"]


def chat_ids(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], row: Mapping[str, Any]) -> list[int]:
    """Tokens of a whole conversation, by the chat template with the row's own values."""
    options = row.get("chat_template_kwargs") or {}
    encoded: Any = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **options)
    return list(encoded["input_ids"])


def _are_messages(value: list[Any]) -> bool:
    return all(isinstance(message, dict) and {"role", "content"} <= message.keys() for message in value)
