"""DPO: preference tuning on pairs of answers, by TRL's DPOTrainer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from remit_lit.errors import ConfigError, DataError, not_among, require_at_least, require_range
from remit_lit.posttraining.example_format import (
    OnTooLong,
    chat_ids,
    keep_short,
    require_columns,
    require_text,
    resolve_max_length,
    template_columns,
)
from remit_lit.posttraining.reward_guard import judge, load_reward
from remit_lit.posttraining.sampling import prompt_ids, sample
from remit_lit.posttraining.stage import Prepared, Stage, Training
from remit_lit.runs.configuration import Configured
from remit_lit.runs.ranks import merged

# TRL refuses an unknown loss only once it trains; its other losses need more than beta.
Loss = Literal["sigmoid", "sigmoid_norm", "hinge", "ipo", "nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down"]


class MakePairs(Configured):
    """Make the pairs from the model's own answers: to each prompt, one that is right and one that is wrong.

    An answer is right where its reward is at least 1, and wrong where it is lower. The first right and the first wrong
    answer to a prompt make its pair; prompts without both are counted and left out.

    Args:
        reward: the dotted path of a reward function, e.g. my_rewards.exact.
        max_new_tokens: the longest answer, in tokens; raise it when answers are cut off.
        samples: how many answers are sampled to each prompt; raise it when few prompts get both kinds of answer.
        temperature: the sampling temperature, above 0; raise it when the answers to a prompt are too alike.
        batch_size: how many answers are sampled at a time; lower it when memory runs out.
        reward_seconds: the time limit of one reward, in seconds.

    Raises:
        ConfigError: a number is out of range.
    """

    def __init__(
        self,
        reward: str,
        max_new_tokens: int,
        samples: int = 8,
        temperature: float = 1.0,
        batch_size: int = 256,
        reward_seconds: float = 10.0,
    ) -> None:
        self.reward, self.max_new_tokens, self.samples = reward, max_new_tokens, samples
        self.temperature, self.batch_size, self.reward_seconds = temperature, batch_size, reward_seconds
        require_range("stage.make_pairs.temperature", temperature, 0.0, 100.0)
        if samples < 2:
            raise ConfigError(f"stage.make_pairs.samples: got {samples}; give at least 2, one for each side of a pair")
        require_at_least("stage.make_pairs.max_new_tokens", max_new_tokens, 1)

    def make(
        self, examples: Dataset, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> tuple[Dataset, dict[str, int]]:
        """The pairs, and how many prompts gave none and how many rewards failed.

        Raises:
            DataError: no prompt has both a right and a wrong answer.
        """
        found = merged(lambda: self._pairs_of_share(examples, model, tokenizer, seed)).values()
        pairs = [pair for pair, _ in found if pair is not None]
        if not pairs:
            raise DataError(
                f"data: none of the {len(examples)} prompts got both a right and a wrong answer in {self.samples} "
                "samples; give other prompts, or raise stage.make_pairs.samples"
            )
        counts = {"no_contrast": len(examples) - len(pairs), "reward_failures": sum(failures for _, failures in found)}
        return Dataset.from_list(pairs), counts

    def _pairs_of_share(
        self, examples: Dataset, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> dict[int, tuple[dict[str, Any] | None, int]]:
        """By the number of each prompt of this rank's share, its pair if there is one, and how many rewards failed."""
        reward = load_reward(self.reward, self.reward_seconds)
        answers_of = sample(
            model,
            tokenizer,
            examples["prompt"][:],
            samples=self.samples,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            batch_size=self.batch_size,
            seed=seed,
        )
        found: dict[int, tuple[dict[str, Any] | None, int]] = {}
        for number, answers in answers_of.items():
            example, before = examples[number], reward.failures
            rewarded = list(zip(answers, judge(reward, example, answers), strict=True))
            right = [answer for answer, value in rewarded if value is not None and value >= 1.0]
            wrong = [answer for answer, value in rewarded if value is not None and value < 1.0]
            pair = {"prompt": example["prompt"], "chosen": right[0], "rejected": wrong[0]} if right and wrong else None
            found[number] = pair, reward.failures - before
        return found


@dataclass
class DPO(Stage):
    """Direct preference optimisation (arXiv:2305.18290) against the starting model.

    The data have ``prompt``, ``chosen`` and ``rejected``, as text or as messages; or ``chosen`` and ``rejected`` as
    whole conversations. Pairs with equal sides are counted and left out.

    Attributes:
        make_pairs: make the pairs from the model's own answers; the data then need only ``prompt``. Null reads the
            pairs from the data.
        beta: the weight of the KL divergence from the starting model; raise it to stay closer to that model.
        loss: the loss by its name in TRL, e.g. sigmoid, sigmoid_norm (log-ratios per token), apo_zero.
        max_length: the longest prompt with either answer, in tokens; null allows as many as the model has positions.
            Lower it to save memory.
        on_too_long: what to do with pairs of which a side is longer: "drop" counts them and leaves them out, "refuse"
            ends the run.

    Raises:
        ConfigError: ``beta`` is not positive, or ``loss`` is unknown.
    """

    make_pairs: MakePairs | None = None
    beta: float = 0.1
    loss: Loss = "sigmoid"
    max_length: int | None = None
    on_too_long: OnTooLong = "drop"

    trl_config = "trl.trainer.dpo_config:DPOConfig"

    def __post_init__(self) -> None:
        require_range("stage.beta", self.beta, 0.0, float("inf"))
        if self.loss not in get_args(Loss):
            raise ConfigError(f"stage.loss: {not_among(self.loss, get_args(Loss))}")

    @property
    def needs_start(self) -> bool:
        return True

    def check(self, training: Training) -> None:
        super().check(training)
        if self.make_pairs is not None:
            load_reward(self.make_pairs.reward)

    def prepare(
        self, examples: Dataset, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> Prepared:
        max_length = resolve_max_length(model, self.max_length)
        dropped: dict[str, int] = {}
        without_room = 0
        if self.make_pairs is not None:
            make = self.make_pairs
            require_text(examples, require_columns(examples, ("prompt",)), tokenizer)
            examples, without_room = keep_short(
                examples,
                lambda example: len(prompt_ids(tokenizer, example["prompt"])) + make.max_new_tokens,
                max_length,
                self.on_too_long,
            )
            examples, dropped = make.make(examples, model, tokenizer, seed)
        columns = require_columns(examples, ("prompt", "chosen", "rejected"), ("chosen", "rejected"))
        messages = require_text(examples, columns, tokenizer)
        if "prompt" not in columns and not messages:
            raise DataError("data: chosen and rejected are text without a prompt; give the column prompt")
        unequal = [index for index, pair in enumerate(examples) if pair["chosen"] != pair["rejected"]]
        dropped["equal"] = len(examples) - len(unequal)
        if not unequal:
            raise DataError(
                f"data: chosen and rejected are equal in all {len(examples)} pairs, so there is no preference to learn"
            )
        pairs, dropped["too_long"] = keep_short(
            examples.select_columns([*columns, *template_columns(examples)]).select(unequal),
            lambda pair: max(_tokens(pair, side, tokenizer) for side in ("chosen", "rejected")),
            max_length,
            self.on_too_long,
        )
        dropped["too_long"] += without_room
        return Prepared(pairs, dropped, max_length)

    def trl_fields(self, max_length: int, messages: bool) -> dict[str, Any]:
        return {"max_length": max_length, "beta": self.beta, "loss_type": [self.loss]}

    def trainer(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: Dataset, config: Any
    ) -> Trainer:
        from trl.trainer.dpo_trainer import DPOTrainer

        return DPOTrainer(model=model, args=config, train_dataset=examples, processing_class=tokenizer)


def _tokens(pair: Mapping[str, Any], side: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of the prompt with one answer and its EOS or end of turn."""
    if isinstance(pair[side], str):
        return len(prompt_ids(tokenizer, pair["prompt"] + pair[side])) + 1
    return len(chat_ids(tokenizer, pair.get("prompt", []) + pair[side], pair))
