"""A model as lm-evaluation-harness asks it, that says where its window is too short."""

import copy
import sys
from typing import Any

from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase


class DoesNotFit(ValueError):  # noqa: N818
    """A task asks for more than the model's window holds."""


class WindowedModel(HFLM):  # type: ignore[misc]
    """Truncates contexts from the left as the harness does, and counts them.

    Probabilities are computed in float32 whatever the weights' dtype. Bars are shown to people only.

    Args:
        model: on its device; left in evaluation mode.
        tokenizer: its own; not changed.
        batch_size: sequences at a time.
        max_length: window in tokens; None is the model's own.

    Attributes:
        truncated: requests whose context was cut since the start.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, max_length: int | None
    ) -> None:
        # The harness gives the tokenizer a padding token where it has none.
        super().__init__(
            pretrained=model,
            tokenizer=copy.deepcopy(tokenizer),
            batch_size=batch_size,
            max_length=max_length,
            softmax_dtype="float32",
        )
        self.truncated = 0

    def _loglikelihood_tokens(self, requests: list[Any], disable_tqdm: bool = False, override_bs: Any = None) -> Any:
        for _, context, continuation in requests:
            if len(continuation) > self.max_length:
                raise DoesNotFit(
                    f"a continuation of {len(continuation):,} tokens does not fit in a window of {self.max_length:,}"
                )
            self.truncated += len(context) + len(continuation) > self.max_length + 1
        return super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)

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
            if new_tokens >= self.max_length:
                raise DoesNotFit(f"answers of {new_tokens:,} tokens do not fit in a window of {self.max_length:,}")
            self.truncated += len(self.tok_encode(context)) > self.max_length - new_tokens
        return super().generate_until(requests, disable_tqdm or not sys.stderr.isatty())
