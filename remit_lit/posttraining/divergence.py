"""How far a stage moved the model: KL to where it started, on what the model now says."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from remit_lit.evaluation.agreement import token_agreement
from remit_lit.losses import IGNORE_INDEX
from remit_lit.posttraining.sampling import Text, draw


def kl_to_start(
    model: PreTrainedModel,
    start: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Text],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    batch_size: int = 64,
    seed: int = 0,
) -> float:
    """KL(model || start) in nats per token, over one completion of ``model`` to each prompt.

    The KL at each position is that of the whole distributions, at temperature 1, so it is 0 only where the two agree
    and never negative; only which positions there are is sampled.

    Args:
        model: built by :meth:`ModelSpec.load`, as is ``start``; both are on one device.
        start: the model before.
        tokenizer: of both.
        prompts: text or messages.
        max_new_tokens: of a completion, its EOS included.
        temperature: of the sampling.
        batch_size: completions at a time.
        seed: of the draws.
    """
    total, count = 0.0, 0
    drawn = draw(
        model,
        tokenizer,
        prompts,
        samples=1,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        batch_size=batch_size,
        seed=seed,
    )
    for rows in drawn:
        divergence, _ = token_agreement(model, start, _batch(rows, model.device))
        total += divergence.sum().item()
        count += sum(len(completion) for _, completion in rows)
    return total / count


def _batch(rows: Sequence[tuple[list[int], list[int]]], device: torch.device) -> dict[str, torch.Tensor]:
    """Prompts with completions, filled up on the right; targets are the completions' tokens. All [batch, time]."""
    width = max(len(prompt) + len(completion) for prompt, completion in rows)
    input_ids = torch.zeros(len(rows), width, dtype=torch.long)
    targets = torch.full((len(rows), width), IGNORE_INDEX)
    for row, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        input_ids[row, :end] = torch.tensor(prompt + completion)
        targets[row, len(prompt) - 1 : end - 1] = torch.tensor(completion)
    position_ids = torch.arange(width).expand(len(rows), width)
    batch = {"input_ids": input_ids, "position_ids": position_ids, "targets": targets}
    return {name: value.to(device) for name, value in batch.items()}
