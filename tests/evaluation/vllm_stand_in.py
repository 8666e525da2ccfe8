"""A stand-in for the package vllm: what lm-evaluation-harness imports of it, answered by transformers on the CPU.

It refuses what vLLM refuses: a prompt that leaves no room for a token in the window, and a window beyond the model's.
"""

import importlib.metadata
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

VERSION = "0.20.0"


@dataclass
class SamplingParams:
    """The fields that the harness gives."""

    temperature: float = 1.0
    max_tokens: int = 16
    prompt_logprobs: int | None = None
    stop: Sequence[str] = ()
    detokenize: bool = True
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True


class LLM:
    """Greedy answers, and log-probabilities of the tokens of prompts."""

    def __init__(self, model: str, tokenizer: str | None, max_model_len: int | None, **options: Any) -> None:
        self.model = LlamaForCausalLM.from_pretrained(model).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(tokenizer or model)
        longest = self.model.config.max_position_embeddings
        if max_model_len is not None and max_model_len > longest:
            raise ValueError(f"max_model_len {max_model_len} is beyond {longest}")
        self.length, self.options = max_model_len or longest, options
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=self.length))

    @torch.no_grad()
    def generate(self, prompts: Sequence[Any], sampling_params: Sequence[SamplingParams], **_: Any) -> list[Any]:
        return [self._answer(*asked) for asked in zip(prompts, sampling_params, strict=True)]

    def _answer(self, prompt: dict[str, list[int]], asked: SamplingParams) -> Any:
        ids = prompt["prompt_token_ids"]
        if len(ids) + 1 > self.length or asked.temperature != 0:
            raise ValueError(f"{len(ids)} tokens in a window of {self.length}, temperature {asked.temperature}")
        if asked.prompt_logprobs is not None:
            told = self.model(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
            tops = told.argmax(-1).tolist()
            steps = zip(told, ids[1:], tops, strict=True)
            likely = [{token: row[token].item(), top: row[top].item()} for row, token, top in steps]
            return SimpleNamespace(prompt_logprobs=[None, *likely])
        text = ""
        for _step in range(min(asked.max_tokens, self.length - len(ids))):
            ids = [*ids, int(self.model(torch.tensor([ids])).logits[0, -1].argmax())]
            text = str(self.tokenizer.decode(ids[len(prompt["prompt_token_ids"]) :]))
            if any(stop in text for stop in asked.stop):
                break
        ends = [text.index(stop) for stop in asked.stop if stop in text]
        return SimpleNamespace(outputs=[SimpleNamespace(text=text[: min(ends, default=len(text))])])


def install(monkeypatch: pytest.MonkeyPatch, gpus: int = 1) -> None:
    """Have imports find the stand-in, on a machine that shows so many GPUs."""
    contents: dict[str, dict[str, Any]] = {
        "vllm": {"LLM": LLM, "SamplingParams": SamplingParams, "TokensPrompt": dict},
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": object},
        "vllm.renderers": {},
        "vllm.renderers.hf": {"resolve_chat_template": lambda **_: None},
        "vllm.tokenizers": {"get_tokenizer": lambda name, tokenizer_mode, **_: AutoTokenizer.from_pretrained(name)},
    }
    for name, content in contents.items():
        module = ModuleType(name)
        module.__spec__, module.__path__ = ModuleSpec(name, None), []
        for attribute, value in content.items():
            setattr(module, attribute, value)
        monkeypatch.setitem(sys.modules, name, module)
    known = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: VERSION if name == "vllm" else known(name))
    seen = SimpleNamespace(cuda=SimpleNamespace(device_count=lambda: gpus))
    monkeypatch.setattr("remit_lit.evaluation.vllm_backend.torch", seen)
