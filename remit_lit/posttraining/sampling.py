"""Completions sampled from a model; its mode and the global random states stay as they were."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

Text = str | list[dict[str, str]]


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Text],
    *,
    samples: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    batch_size: int = 64,
    seed: int = 0,
) -> list[list[Text]]:
    """``samples`` completions of each prompt, [prompts][samples]; messages where the prompt is messages.

    Args:
        model: any causal language model.
        tokenizer: with a chat template where prompts are messages.
        prompts: text or messages.
        samples: how many completions of each prompt.
        max_new_tokens: the longest completion in tokens, its EOS included.
        temperature: the sampling temperature, above 0.
        batch_size: completions at a time, rounded down to whole prompts, at least one.
        seed: the seed of the sampling, whatever the state of the global generators.
    """
    batches = draw(
        model,
        tokenizer,
        prompts,
        samples=samples,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        batch_size=batch_size,
        seed=seed,
    )
    texts = [
        text
        for drawn in batches
        for text in tokenizer.batch_decode([completion for _, completion in drawn], skip_special_tokens=True)
    ]
    groups = (texts[start : start + samples] for start in range(0, len(texts), samples))
    return [
        [text if isinstance(prompt, str) else _as_message(text) for text in group]
        for prompt, group in zip(prompts, groups, strict=True)
    ]


def draw(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Text],
    *,
    samples: int,
    max_new_tokens: int,
    temperature: float,
    batch_size: int,
    seed: int,
) -> Iterator[list[tuple[list[int], list[int]]]]:
    """In batches, the tokens of each prompt with those of a completion, which ends with its EOS if it has one.

    Takes the arguments of `sample`; a prompt's samples follow each other.
    """
    step = max(1, batch_size // samples)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    stops = _stop_tokens(model, tokenizer)
    with _sampling(model, seed):
        for start in range(0, len(prompts), step):
            ids = [prompt_ids(tokenizer, prompt) for prompt in prompts[start : start + step]]
            width = max(map(len, ids))
            padded = [[pad] * (width - len(row)) + row for row in ids]
            mask = [[0] * (width - len(row)) + [1] * len(row) for row in ids]
            generated = model.generate(  # type: ignore[operator]
                torch.tensor(padded, device=model.device),
                attention_mask=torch.tensor(mask, device=model.device),
                do_sample=True,
                temperature=temperature,
                top_k=0,
                top_p=1.0,
                num_return_sequences=samples,
                max_new_tokens=max_new_tokens,
                pad_token_id=pad,
                eos_token_id=stops,
            )
            completions = [_cut_after_stop(row, stops) for row in generated[:, width:].tolist()]
            yield [(ids[index // samples], completion) for index, completion in enumerate(completions)]


def _cut_after_stop(completion: list[int], stops: list[int]) -> list[int]:
    """The tokens up to the first stop token, inclusive: what follows is padding."""
    end = next((index for index, token in enumerate(completion) if token in stops), len(completion))
    return completion[: end + 1]


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: Text) -> list[int]:
    """The tokens that a completion of ``prompt`` continues."""
    if isinstance(prompt, str):
        return list(tokenizer(prompt)["input_ids"])
    encoded: Any = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=True)
    return list(encoded["input_ids"])


def _as_message(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Every token that ends a completion: the tokenizer's EOS, and those of the model, e.g. an end of turn."""
    configured: Any = model.generation_config.eos_token_id if model.generation_config is not None else None
    tokens = configured if isinstance(configured, list) else [configured]
    return sorted({tokenizer.eos_token_id, *(token for token in tokens if token is not None)})


@contextmanager
def _sampling(model: PreTrainedModel, seed: int) -> Iterator[None]:
    """Evaluation mode, no gradients, and random numbers from ``seed``; all as before afterwards."""
    training = model.training
    model.eval()
    devices = [model.device] if model.device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield
    finally:
        model.train(training)
