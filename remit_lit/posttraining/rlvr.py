"""RLVR: reinforcement learning from verifiable rewards, by GRPO with TRL's GRPOTrainer."""

from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from remit_lit.errors import ConfigError, DataError, require_range
from remit_lit.posttraining.example_format import OnTooLong, keep_short, require_text, window_of, with_prompts
from remit_lit.posttraining.reward_guard import Guard, OnFailure, load_reward
from remit_lit.posttraining.sampling import prompt_ids
from remit_lit.posttraining.stage import Prepared, Stage, Training


class RLVR(Stage):
    """GRPO (arXiv:2402.03300) with plain functions as rewards.

    The data have ``prompt``, as text or as messages, or ``messages``, of which answers at the end are left out; the
    rewards get all other columns. An optimizer step takes training.batch_size x training.accumulate completions a
    device, ``samples`` of each prompt.

    Logged: reward, rewards/NAME/group_std (the spread within a group), frac_reward_zero_std (the share of groups whose
    samples all have the same reward, which teach nothing), completions/mean_length, reward_failures, and kl to the
    model at the start. Without a KL term (``beta`` 0) no reference is loaded, and the KL is not known in training;
    ``progress`` measures it at the end.

    Args:
        reward: dotted path of a reward function, or several that are added up.
        samples: completions of each prompt, a group.
        max_new_tokens: of a completion.
        temperature: of the sampling.
        beta: weight of the KL to the model at the start.
        on_reward_failure: "continue" counts a failing reward in reward_failures and leaves the sample out of its group;
            "stop" ends the run.
        reward_seconds: time limit of one reward.
        max_length: tokens of prompt and completion; null: as many as the model has positions.
        on_too_long: prompts that leave no room for max_new_tokens are counted and left out ("drop"), or an error
            ("refuse").

    Raises:
        ConfigError: a number out of its range.
    """

    trl_config = "trl.trainer.grpo_config:GRPOConfig"

    def __init__(
        self,
        reward: str | list[str],
        max_new_tokens: int,
        samples: int = 8,
        temperature: float = 1.0,
        beta: float = 0.0,
        on_reward_failure: OnFailure = "continue",
        reward_seconds: float = 10.0,
        max_length: int | None = None,
        on_too_long: OnTooLong = "drop",
    ) -> None:
        self.reward, self.max_new_tokens, self.samples, self.temperature = reward, max_new_tokens, samples, temperature
        self.beta, self.on_reward_failure, self.reward_seconds = beta, on_reward_failure, reward_seconds
        self.max_length, self.on_too_long = max_length, on_too_long
        require_range("stage.temperature", temperature, 0.0, 100.0)
        require_range("stage.beta", beta, 0.0, float("inf"), include_low=True)
        if samples < 2 or max_new_tokens < 1:
            raise ConfigError(
                f"stage: got samples {samples}, max_new_tokens {max_new_tokens}; give at least 2 and 1: GRPO compares "
                "the samples of a prompt"
            )
        self._guards: list[Guard] = []

    @property
    def needs_start(self) -> bool:
        return self.beta > 0

    def check(self, training: Training) -> None:
        super().check(training)
        self._load_rewards()

    def prepare(
        self, examples: Dataset, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> Prepared:
        window = window_of(model, self.max_length)
        examples = with_prompts(examples)
        require_text(examples, ("prompt",), tokenizer)
        rows, longer = keep_short(
            examples,
            lambda row: len(prompt_ids(tokenizer, row["prompt"])) + self.max_new_tokens,
            window,
            self.on_too_long,
        )
        return Prepared(rows, {"too_long": longer}, window)

    def settings(self, window: int, messages: bool) -> dict[str, Any]:
        return {
            "num_generations": self.samples,
            "max_completion_length": self.max_new_tokens,
            "temperature": self.temperature,
            "beta": self.beta,
        }

    def trainer(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Dataset, config: Any
    ) -> Trainer:
        from trl.trainer.grpo_trainer import GRPOTrainer

        prompts = config.generation_batch_size // self.samples
        if prompts > len(rows):
            raise DataError(
                f"data: {len(rows)} prompts are fewer than the {prompts} of a step (training.batch_size, accumulate "
                "and stage.samples); give more, or smaller steps"
            )
        self._load_rewards()
        rewards: list[Any] = list(self._guards)
        return GRPOTrainer(
            model=model, reward_funcs=rewards, args=config, train_dataset=rows, processing_class=tokenizer
        )

    def results(self) -> dict[str, float]:
        return {"reward_failures": sum(guard.failures for guard in self._guards)}

    def _load_rewards(self) -> None:
        paths = [self.reward] if isinstance(self.reward, str) else self.reward
        if not paths:
            raise ConfigError("stage.reward: got none; give the dotted path of a function")
        self._guards = [load_reward(path, self.reward_seconds, self.on_reward_failure) for path in paths]
