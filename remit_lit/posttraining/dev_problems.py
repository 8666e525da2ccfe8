"""pass@k on dev problems, before and after a stage, and how far it moved the model."""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from remit_lit.errors import ConfigError, DataError, require_range
from remit_lit.evaluation.agreement import token_agreement
from remit_lit.evaluation.results import pass_at_k
from remit_lit.losses import IGNORE_INDEX
from remit_lit.posttraining.example_format import positions_of, require_text, with_prompts
from remit_lit.posttraining.examples import Examples
from remit_lit.posttraining.held_out import HeldOutExamples
from remit_lit.posttraining.reward_guard import judge, load_reward
from remit_lit.posttraining.sampling import Text, draw, prompt_ids, sample


class Measured(NamedTuple):
    """What a model makes of the dev problems.

    Attributes:
        figures: pass@k by name, the number of problems, and ``reward_failures``.
        solved: how many of each problem's samples, [problems].
    """

    figures: dict[str, float]
    solved: list[int]


class DevProgress:
    """Sample dev problems and judge the answers: pass@k by the unbiased estimator.

    A problem's sample counts as solved where its reward is at least 1; where the reward fails, it does not. The
    problems are held out: training on one of them is refused.

    Args:
        data: dev problems with ``prompt`` or ``messages`` (see RLVR) and the columns that the reward reads.
        reward: dotted path of a reward function.
        max_new_tokens: of an answer.
        samples: answers to each problem.
        k: each at most ``samples``.
        temperature: above 0.
        batch_size: answers at a time.
        reward_seconds: time limit of one reward.
        seed: of the samples.
        kl: measure the KL to the model at the start too, afterwards; that model is loaded a second time for it.

    Raises:
        ConfigError: a number out of its range.
    """

    def __init__(
        self,
        data: Examples,
        reward: str,
        max_new_tokens: int,
        samples: int = 8,
        k: list[int] | None = None,
        temperature: float = 1.0,
        batch_size: int = 256,
        reward_seconds: float = 10.0,
        seed: int = 0,
        kl: bool = True,
    ) -> None:
        self.data, self.reward, self.max_new_tokens, self.samples = data, reward, max_new_tokens, samples
        self.k, self.kl = [1] if k is None else k, kl
        self.temperature, self.batch_size, self.reward_seconds, self.seed = (
            temperature,
            batch_size,
            reward_seconds,
            seed,
        )
        require_range("progress.temperature", temperature, 0.0, 100.0)
        if samples < 1 or max_new_tokens < 1:
            raise ConfigError(f"progress: got samples {samples}, max_new_tokens {max_new_tokens}; give at least 1")
        if not self.k or not all(1 <= value <= samples for value in self.k):
            raise ConfigError(f"progress.k: got {self.k}; give numbers from 1 to the {samples} samples")

    def check(self) -> None:
        """Refuse a reward or data that are not there, without loading a model."""
        load_reward(self.reward)
        self.data.check()

    def held_out(self) -> HeldOutExamples:
        """The dev problems, for the check that no stage trains on them."""
        return HeldOutExamples(self.data)

    def require_readable(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Refuse problems that the model cannot be asked, before anything is trained.

        Raises:
            DataError: they have no prompts, or one leaves no room for an answer.
            ConfigError: they are messages, and the tokenizer has no chat template.
        """
        problems = self._problems()
        require_text(problems, ("prompt",), tokenizer)
        positions = positions_of(model)
        for index, prompt in enumerate(problems["prompt"]):
            tokens = len(prompt_ids(tokenizer, prompt)) + self.max_new_tokens
            if positions is not None and tokens > positions:
                raise DataError(
                    f"progress.data: problem {index} with max_new_tokens takes {tokens} tokens, and this model reads "
                    f"{positions}; take it out, or lower progress.max_new_tokens"
                )

    def measure(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Measured:
        """Sample and judge; the model's mode is restored."""
        problems, reward = self._problems(), load_reward(self.reward, self.reward_seconds)
        drawn = sample(
            model,
            tokenizer,
            problems["prompt"][:],
            samples=self.samples,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        judged = (judge(reward, problem, answers) for problem, answers in zip(problems, drawn, strict=True))
        solved = [sum(value is not None and value >= 1.0 for value in values) for values in judged]
        figures = {f"pass@{k}": fmean(pass_at_k(self.samples, count, k) for count in solved) for k in self.k}
        return Measured({**figures, "problems": len(problems), "reward_failures": reward.failures}, solved)

    def moved(
        self, model: PreTrainedModel, start: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> dict[str, float]:
        """``kl``: KL(model || start) in nats per token, on an answer of ``model`` to each problem."""
        divergence = kl_to_start(
            model,
            start.to(model.device),  # type: ignore[arg-type]
            tokenizer,
            self._problems()["prompt"][:],
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        return {"kl": divergence}

    def _problems(self) -> Dataset:
        return with_prompts(self.data.load())


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
        batch = _batch(rows, model.device)
        divergence = token_agreement(model, start, batch, batch["targets"] != IGNORE_INDEX).kl
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
