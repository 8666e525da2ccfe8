"""lm-evaluation-harness's vLLM model. The harness imports vLLM here, so this is imported only where it is asked for."""

import copy
from typing import Any
from unittest.mock import patch

from lm_eval.models.vllm_causallms import VLLM
from transformers import PreTrainedTokenizerBase

from remit_lit.evaluation.vllm_backend import SPARE
from remit_lit.evaluation.windowed_model import Windowed


class WindowedVLLM(Windowed, VLLM):  # type: ignore[misc]
    """A model on vLLM that gets the requests, tokens and windows that :class:`WindowedModel` would get.

    Args:
        arguments: of the harness's model, see :func:`remit_lit.evaluation.vllm_backend.vllm_arguments`.
        tokenizer: the model's own; not changed.
    """

    def __init__(self, arguments: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(**arguments)
        self.tokenizer = copy.deepcopy(tokenizer)
        self.window = self.max_length - SPARE

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> Any:
        with patch.object(self, "_max_length", self.window):  # to which contexts are cut
            return super().generate_until(requests, disable_tqdm)
