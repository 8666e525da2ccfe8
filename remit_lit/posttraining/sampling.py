"""Completions sampled from a model; its mode and the global random states stay as they were.

The batches of prompts are shared out over ranks. Each batch has random numbers of its own, so that the completions are
the same whichever rank draws it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from remit_lit.runs.ranks import dealt

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
) -> dict[int, list[Text]]:
    """``samples`` completions of each prompt of this rank's share, by the prompt's number; messages for messages.

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
    completions: dict[int, list[Text]] = {}
    for first, drawn in batches:
        texts = tokenizer.batch_decode([completion for _, completion in drawn], skip_special_tokens=True)
        for index, text in enumerate(texts):
            number = first + index // samples
            said = text if isinstance(prompts[number], str) else _as_message(text)
            completions.setdefault(number, []).append(said)
    return completions


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
) -> Iterator[tuple[int, list[tuple[list[int], list[int]]]]]:
    """In batches, the tokens of each prompt with those of a completion, which ends with its EOS if it has one.

    Takes the arguments of `sample`; a prompt's samples follow each other. Before each batch stands the number of its
    first prompt.
    """
    step = max(1, batch_size // samples)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    stops = _stop_tokens(model, tokenizer)
    starts = range(0, len(prompts), step)
    with _sampling(model):
        # ZeRO stage 3 gathers weights in each forward pass, so that there all ranks must make the same ones.
        for start in starts if is_deepspeed_zero3_enabled() else dealt(starts):
            torch.manual_seed(_seed(seed, start // step))
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
            yield start, [(ids[index // samples], completion) for index, completion in enumerate(completions)]


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


def _seed(seed: int, batch: int) -> int:
    return int(np.random.SeedSequence(seed, spawn_key=(batch,)).generate_state(1)[0])


@contextmanager
def _sampling(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode and no gradients; they and the random state as before afterwards."""
    training = model.training
    model.eval()
    devices = [model.device] if model.device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            yield
    finally:
        model.train(training)
