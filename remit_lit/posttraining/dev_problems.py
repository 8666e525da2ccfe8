"""pass@k on dev problems before and after a stage, and how far training moved the model."""

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
from remit_lit.posttraining.examples import Examples, require_same_everywhere
from remit_lit.posttraining.held_out import HeldOutExamples
from remit_lit.posttraining.reward_guard import judge, load_reward
from remit_lit.posttraining.sampling import Text, draw, prompt_ids, sample
from remit_lit.runs.configuration import Configured
from remit_lit.runs.ranks import merged


class DevScores(NamedTuple):
    """How well a model solves the dev problems.

    Attributes:
        metrics: pass@k by name, the number of problems, and ``reward_failures``.
        solved: how many samples of each problem are right, [problems].
    """

    metrics: dict[str, float]
    solved: list[int]


class DevProgress(Configured):
    """Answer dev problems by sampling and judge the answers: pass@k by the unbiased estimator.

    An answer is right where its reward is at least 1, and not where the reward fails. The problems are held out:
    training on one of them is refused.

    Args:
        data: the dev problems, with ``prompt`` or ``messages`` (see RLVR) and the columns that the reward reads.
        reward: the dotted path of a reward function, e.g. my_rewards.exact.
        max_new_tokens: the longest answer, in tokens; raise it when answers are cut off.
        samples: how many answers are sampled to each problem; more give a more precise pass@k.
        k: the values of k for which pass@k is computed, each at most samples; null is [1].
        temperature: the sampling temperature, above 0.
        batch_size: how many answers are sampled at a time; lower it when memory runs out.
        reward_seconds: the time limit of one reward, in seconds.
        seed: the seed of the sampling.
        kl: also measure the KL divergence from the starting model after training, in nats per token; the starting
            model is loaded again for it, so turn it off when memory is short.

    Raises:
        ConfigError: a number is out of range.
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
            raise ConfigError(
                f"progress: got samples {samples} and max_new_tokens {max_new_tokens}; give at least 1 of each"
            )
        if not self.k or not all(1 <= value <= samples for value in self.k):
            raise ConfigError(f"progress.k: got {self.k}; give one or more numbers from 1 to samples ({samples})")

    def check(self) -> None:
        """Refuse a reward or data that do not exist, without loading a model."""
        load_reward(self.reward)
        self.data.check()

    def held_out(self) -> HeldOutExamples:
        """The dev problems, for the check that no stage trains on them."""
        return HeldOutExamples(self.data)

    def require_readable(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Refuse problems that the model cannot answer, before anything is trained.

        Raises:
            DataError: they have no prompts, one leaves no room for an answer, or ranks read different ones.
            ConfigError: they are messages, and the tokenizer has no chat template.
        """
        problems = self._problems()
        require_same_everywhere("progress.data", problems)
        require_text(problems, ("prompt",), tokenizer)
        positions = positions_of(model)
        for index, prompt in enumerate(problems["prompt"]):
            tokens = len(prompt_ids(tokenizer, prompt)) + self.max_new_tokens
            if positions is not None and tokens > positions:
                raise DataError(
                    f"progress.data: problem {index} with an answer of max_new_tokens has {tokens} tokens, but this "
                    f"model reads at most {positions}; remove the problem, or lower progress.max_new_tokens"
                )

    def measure(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> DevScores:
        """Sample and judge answers, each rank those of its share; the model's mode is restored."""
        problems = self._problems()
        found = merged(lambda: self._judge_share(problems, model, tokenizer)).values()
        solved = [count for count, _ in found]
        metrics = {f"pass@{k}": fmean(pass_at_k(self.samples, count, k) for count in solved) for k in self.k}
        failures = sum(count for _, count in found)
        return DevScores({**metrics, "problems": len(problems), "reward_failures": failures}, solved)

    def _judge_share(
        self, problems: Dataset, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> dict[int, tuple[int, int]]:
        """By number of each problem of this rank's share: how many answers are right, and how many rewards failed."""
        reward = load_reward(self.reward, self.reward_seconds)
        answers_of = sample(
            model,
            tokenizer,
            problems["prompt"][:],
            samples=self.samples,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        found = {}
        for number, answers in answers_of.items():
            before = reward.failures
            values = judge(reward, problems[number], answers)
            right = sum(value is not None and value >= 1.0 for value in values)
            found[number] = right, reward.failures - before
        return found

    def kl_to_start(
        self, model: PreTrainedModel, start: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> dict[str, float]:
        """``kl``: KL(model || start) in nats per token, over one answer of ``model`` to each problem."""
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

    The KL at each position is that of the whole distributions, at temperature 1, so it is never negative and 0 only
    where the two agree; only the positions are sampled.

    Args:
        model: the trained model, built by :meth:`ModelSpec.load`.
        start: the starting model, built likewise and on the same device.
        tokenizer: the tokenizer of both.
        prompts: text or messages.
        max_new_tokens: the longest completion in tokens, its EOS included.
        temperature: the sampling temperature.
        batch_size: how many completions are sampled at a time.
        seed: the seed of the sampling.
    """

    def of_share() -> dict[int, tuple[float, int]]:
        """Of each batch of this rank's share, the sum in nats and the number of tokens."""
        batches = draw(
            model,
            tokenizer,
            prompts,
            samples=1,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            batch_size=batch_size,
            seed=seed,
        )
        sums = {}
        for first, drawn in batches:
            batch = _batch(drawn, model.device)
            divergence = token_agreement(model, start, batch, batch["targets"]).kl
            sums[first] = divergence.sum().item(), sum(len(completion) for _, completion in drawn)
        return sums

    totals, counts = zip(*merged(of_share).values(), strict=True)
    return sum(totals) / sum(counts)


def _batch(drawn: Sequence[tuple[list[int], list[int]]], device: torch.device) -> dict[str, torch.Tensor]:
    """Prompts with completions, padded on the right; targets are the completions' tokens. All [batch, time]."""
    width = max(len(prompt) + len(completion) for prompt, completion in drawn)
    input_ids = torch.zeros(len(drawn), width, dtype=torch.long)
    targets = torch.full((len(drawn), width), IGNORE_INDEX)
    for row, (prompt, completion) in enumerate(drawn):
        end = len(prompt) + len(completion)
        input_ids[row, :end] = torch.tensor(prompt + completion)
        targets[row, len(prompt) - 1 : end - 1] = torch.tensor(completion)
    position_ids = torch.arange(width).expand(len(drawn), width)
    batch = {"input_ids": input_ids, "position_ids": position_ids, "targets": targets}
    return {name: value.to(device) for name, value in batch.items()}
