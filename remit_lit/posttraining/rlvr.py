"""RLVR: reinforcement learning from verifiable rewards, by GRPO with TRL's GRPOTrainer."""

from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from remit_lit.errors import ConfigError, DataError, require_at_least, require_range
from remit_lit.posttraining.example_format import OnTooLong, keep_short, require_text, resolve_max_length, with_prompts
from remit_lit.posttraining.reward_guard import OnFailure, load_reward
from remit_lit.posttraining.sampling import prompt_ids
from remit_lit.posttraining.shared_reward import SharedReward
from remit_lit.posttraining.stage import Prepared, Stage, Training


@dataclass
class RLVR(Stage):
    """GRPO (arXiv:2402.03300) with plain functions as rewards.

    The data have ``prompt``, as text or as messages, or ``messages``, of which answers at the end are left out; the
    rewards get all other columns. On each device an optimizer step takes training.batch_size x training.accumulate
    completions, ``samples`` of each prompt.

    Logged: reward, rewards/NAME/group_std (the spread within a group), frac_reward_zero_std (the share of groups whose
    samples all have the same reward, which teach nothing), completions/mean_length, reward_failures, and kl to the
    starting model. Without a KL term (``beta`` 0) no reference is loaded and no KL is logged; ``progress`` measures it
    at the end.

    Attributes:
        reward: the dotted path of a reward function, e.g. my_rewards.exact, or several, whose rewards are added.
        max_new_tokens: the longest completion, in tokens; raise it when answers are cut off.
        samples: how many completions are sampled for each prompt; together they are a group, within which rewards are
            compared. Raise it when most groups have equal rewards.
        temperature: the sampling temperature, above 0; raise it when the samples of a prompt are too alike.
        beta: the weight of the KL divergence from the starting model in the loss; 0 has no such term.
        on_reward_failure: what to do when a reward raises, hangs or is not finite: "continue" counts it in
            reward_failures and leaves the sample out of its group, "stop" ends the run.
        reward_seconds: the time limit of one reward, in seconds.
        max_length: the longest prompt and completion together, in tokens; null allows as many as the model has
            positions.
        on_too_long: what to do with prompts that leave no room for max_new_tokens: "drop" counts them and leaves them
            out, "refuse" ends the run.

    Raises:
        ConfigError: a number is out of range.
    """

    reward: str | list[str]
    max_new_tokens: int
    samples: int = 8
    temperature: float = 1.0
    beta: float = 0.0
    on_reward_failure: OnFailure = "continue"
    reward_seconds: float = 10.0
    max_length: int | None = None
    on_too_long: OnTooLong = "drop"
    _rewards: list[SharedReward] = field(default_factory=list, init=False, repr=False)

    trl_config = "trl.trainer.grpo_config:GRPOConfig"

    def __post_init__(self) -> None:
        require_range("stage.temperature", self.temperature, 0.0, 100.0)
        require_range("stage.beta", self.beta, 0.0, float("inf"), include_low=True)
        if self.samples < 2:
            raise ConfigError(f"stage.samples: got {self.samples}; give at least 2, since GRPO compares them")
        require_at_least("stage.max_new_tokens", self.max_new_tokens, 1)

    @property
    def needs_start(self) -> bool:
        return self.beta > 0

    def check(self, training: Training) -> None:
        super().check(training)
        self._load_rewards()

    def prepare(
        self, examples: Dataset, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> Prepared:
        max_length = resolve_max_length(model, self.max_length)
        examples = with_prompts(examples)
        require_text(examples, ("prompt",), tokenizer)
        kept, longer = keep_short(
            examples,
            lambda example: len(prompt_ids(tokenizer, example["prompt"])) + self.max_new_tokens,
            max_length,
            self.on_too_long,
        )
        return Prepared(kept, {"too_long": longer}, max_length)

    def trl_fields(self, max_length: int, messages: bool) -> dict[str, Any]:
        return {
            "num_generations": self.samples,
            "max_completion_length": self.max_new_tokens,
            "temperature": self.temperature,
            "beta": self.beta,
        }

    def trainer(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: Dataset, config: Any
    ) -> Trainer:
        from trl.trainer.grpo_trainer import GRPOTrainer

        prompts = config.generation_batch_size // self.samples
        if prompts > len(examples):
            raise DataError(
                f"data: got {len(examples)} prompts, but one optimizer step takes {prompts} (training.batch_size x "
                "training.accumulate x devices / stage.samples); give more prompts, or take smaller steps"
            )
        self._load_rewards()
        rewards: list[Any] = list(self._rewards)
        return GRPOTrainer(
            model=model, reward_funcs=rewards, args=config, train_dataset=examples, processing_class=tokenizer
        )

    def results(self) -> dict[str, float]:
        return {"reward_failures": sum(reward.failures for reward in self._rewards)}

    def _load_rewards(self) -> None:
        paths = [self.reward] if isinstance(self.reward, str) else self.reward
        if not paths:
            raise ConfigError("stage.reward: got none; give the dotted path of a function")
        guards = [load_reward(path, self.reward_seconds, self.on_reward_failure) for path in paths]
        self._rewards = [SharedReward(guard, len(guards)) for guard in guards]
