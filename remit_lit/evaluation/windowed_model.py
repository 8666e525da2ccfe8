"""A model as lm-evaluation-harness asks it, that says where its window is too short, on one rank or on several."""

import copy
import sys
from collections.abc import Callable
from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from remit_lit.runs.ranks import dealt, merged, rank


class DoesNotFit(ValueError):  # noqa: N818
    """A task asks for more than the model's window holds."""


class Windowed(TemplateLM):  # type: ignore[misc]
    """Put before a model of the harness: contexts that it truncates from the left are counted, bars shown to people.

    Attributes:
        window: the longest input in tokens, of which the last predicts one token more.
        truncated: requests whose context was cut since the start.
        shared: all ranks ask the same requests at once, and each answers its share of them.
    """

    window: int
    truncated = 0
    shared = False

    def _loglikelihood_tokens(self, requests: list[Any], disable_tqdm: bool = False, **options: Any) -> Any:
        for _, context, continuation in requests:
            if len(continuation) > self.window:
                raise DoesNotFit(
                    f"a continuation of {len(continuation):,} tokens does not fit in a window of {self.window:,}"
                )
            self.truncated += len(context) + len(continuation) > self.window + 1
        answer = super()._loglikelihood_tokens
        return self._answers(requests, lambda share: answer(share, disable_tqdm=disable_tqdm, **options))

    def window_loglikelihoods(self, windows: list[tuple[list[int], list[int]]]) -> list[float]:
        """Log-likelihood in nats of each continuation, given its context; both are tokens."""
        requests = [(None, context, continuation) for context, continuation in windows]
        found = self._loglikelihood_tokens(requests, disable_tqdm=not sys.stderr.isatty())
        return [log_likelihood for log_likelihood, _ in found]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> Any:
        return super().loglikelihood(requests, disable_tqdm or not sys.stderr.isatty())

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> Any:
        for request in requests:
            context, options = request.args
            new_tokens = int(options.get("max_gen_toks", self.max_gen_toks))
            if new_tokens >= self.window:
                raise DoesNotFit(f"answers of {new_tokens:,} tokens do not fit in a window of {self.window:,}")
            self.truncated += len(self.tok_encode(context)) > self.window - new_tokens
        answer = super().generate_until
        return self._answers(requests, lambda share: answer(share, disable_tqdm or not sys.stderr.isatty()))

    def _answers(self, requests: list[Any], answer: Callable[[list[Any]], list[Any]]) -> list[Any]:
        """The answers to all requests, in their order."""
        if not self.shared:
            return answer(requests)

        def of_share() -> dict[int, Any]:
            numbers = dealt(range(len(requests)))
            # Samples of one prompt, drawn on several ranks, must not be the same.
            torch.manual_seed(torch.initial_seed() + rank())
            return dict(zip(numbers, answer([requests[number] for number in numbers]), strict=True)) if numbers else {}

        return list(merged(of_share).values())


class WindowedModel(Windowed, HFLM):  # type: ignore[misc]
    """A model of transformers. Probabilities are computed in float32 whatever the weights' dtype.

    Args:
        model: on its device; left in evaluation mode.
        tokenizer: its own; not changed.
        batch_size: sequences at a time.
        max_length: window in tokens; None is the model's own.
        shared: as the attribute.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int,
        max_length: int | None,
        shared: bool = False,
    ) -> None:
        # The harness gives the tokenizer a padding token where it has none.
        super().__init__(
            pretrained=model,
            tokenizer=copy.deepcopy(tokenizer),
            batch_size=batch_size,
            max_length=max_length,
            softmax_dtype="float32",
        )
        self.window, self.shared = self.max_length, shared
