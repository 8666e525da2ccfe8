"""DPO: preference tuning on pairs of answers, by TRL's DPOTrainer."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from remit_lit.errors import ConfigError, DataError, require_range
from remit_lit.posttraining.example_format import (
    OnTooLong,
    chat_ids,
    keep_short,
    require_columns,
    require_text,
    template_columns,
    window_of,
)
from remit_lit.posttraining.reward_guard import judge, load_reward
from remit_lit.posttraining.sampling import prompt_ids, sample
from remit_lit.posttraining.stage import Prepared, Stage, Training

# Of TRL, which knows them only once it trains; its other ones need more settings than beta.
Loss = Literal["sigmoid", "sigmoid_norm", "hinge", "ipo", "nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down"]


class MakePairs:
    """Make the pairs from the model's own answers: one that the reward calls right, and one that it calls wrong.

    Right is a reward of at least 1, wrong one below. Of each prompt the first of each kind makes the pair; prompts
    without both are counted and left out.

    Args:
        reward: dotted path of a reward function.
        max_new_tokens: of an answer.
        samples: answers to each prompt.
        temperature: of the sampling.
        batch_size: answers at a time.
        reward_seconds: time limit of one reward.

    Raises:
        ConfigError: a number out of its range.
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
        if samples < 2 or max_new_tokens < 1:
            raise ConfigError(
                f"stage.make_pairs: got samples {samples}, max_new_tokens {max_new_tokens}; give at least 2 and 1"
            )

    def make(
        self, examples: Dataset, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> tuple[Dataset, dict[str, int]]:
        """Pairs, and counts of prompts without one and of rewards that failed.

        Raises:
            DataError: no prompt has both a right and a wrong answer.
        """
        reward = load_reward(self.reward, self.reward_seconds)
        drawn = sample(
            model,
            tokenizer,
            examples["prompt"][:],
            samples=self.samples,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            batch_size=self.batch_size,
            seed=seed,
        )
        pairs = []
        for row, answers in zip(examples, drawn, strict=True):
            judged = list(zip(answers, judge(reward, row, answers), strict=True))
            right = [answer for answer, value in judged if value is not None and value >= 1.0]
            wrong = [answer for answer, value in judged if value is not None and value < 1.0]
            if right and wrong:
                pairs.append({"prompt": row["prompt"], "chosen": right[0], "rejected": wrong[0]})
        if not pairs:
            raise DataError(
                f"data: of {len(examples)} prompts none has both a right and a wrong answer among {self.samples} "
                "samples; give other prompts, or more samples"
            )
        counts = {"no_contrast": len(examples) - len(pairs), "reward_failures": reward.failures}
        return Dataset.from_list(pairs), counts


class DPO(Stage):
    """Direct preference optimisation (arXiv:2305.18290) against the model at the start.

    The data have ``prompt``, ``chosen`` and ``rejected``, as text or as messages; or ``chosen`` and ``rejected`` as
    whole conversations. Pairs with equal sides are counted and left out.

    Args:
        make_pairs: make the pairs from the model's own answers; the data then need only ``prompt``.
        beta: of the loss.
        loss: by TRL's name, e.g. sigmoid, sigmoid_norm (log-ratios a token), apo_zero.
        max_length: tokens of a prompt with either answer; null: as many as the model has positions.
        on_too_long: pairs with a longer side are counted and left out ("drop"), or an error ("refuse").

    Raises:
        ConfigError: ``beta`` is not positive, or ``loss`` is unknown.
    """

    trl_config = "trl.trainer.dpo_config:DPOConfig"

    def __init__(
        self,
        make_pairs: MakePairs | None = None,
        beta: float = 0.1,
        loss: Loss = "sigmoid",
        max_length: int | None = None,
        on_too_long: OnTooLong = "drop",
    ) -> None:
        require_range("stage.beta", beta, 0.0, float("inf"))
        if loss not in get_args(Loss):
            raise ConfigError(f"stage.loss: got {loss!r}; give one of {', '.join(get_args(Loss))}")
        self.make_pairs, self.beta, self.loss = make_pairs, beta, loss
        self.max_length, self.on_too_long = max_length, on_too_long

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
        window = window_of(model, self.max_length)
        dropped: dict[str, int] = {}
        no_room = 0
        if self.make_pairs is not None:
            make = self.make_pairs
            require_text(examples, require_columns(examples, ("prompt",)), tokenizer)
            examples, no_room = keep_short(
                examples,
                lambda row: len(prompt_ids(tokenizer, row["prompt"])) + make.max_new_tokens,
                window,
                self.on_too_long,
            )
            examples, dropped = make.make(examples, model, tokenizer, seed)
        columns = require_columns(examples, ("prompt", "chosen", "rejected"), ("chosen", "rejected"))
        messages = require_text(examples, columns, tokenizer)
        if "prompt" not in columns and not messages:
            raise DataError("data: chosen and rejected are text without a prompt; give the column prompt")
        pairs = [index for index, row in enumerate(examples) if row["chosen"] != row["rejected"]]
        dropped["equal"] = len(examples) - len(pairs)
        if not pairs:
            raise DataError(
                f"data: in all {len(examples)} pairs chosen and rejected are equal, so nothing is preferred"
            )
        rows, dropped["too_long"] = keep_short(
            examples.select_columns([*columns, *template_columns(examples)]).select(pairs),
            lambda row: max(_tokens(row, side, tokenizer) for side in ("chosen", "rejected")),
            window,
            self.on_too_long,
        )
        dropped["too_long"] += no_room
        return Prepared(rows, dropped, window)

    def settings(self, window: int, messages: bool) -> dict[str, Any]:
        return {"max_length": window, "beta": self.beta, "loss_type": [self.loss]}

    def trainer(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Dataset, config: Any
    ) -> Trainer:
        from trl.trainer.dpo_trainer import DPOTrainer

        return DPOTrainer(model=model, args=config, train_dataset=rows, processing_class=tokenizer)


def _tokens(row: Mapping[str, Any], side: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of the prompt with one answer and its EOS or end of turn."""
    if isinstance(row[side], str):
        return len(prompt_ids(tokenizer, row["prompt"] + row[side])) + 1
    return len(chat_ids(tokenizer, row.get("prompt", []) + row[side], row))
