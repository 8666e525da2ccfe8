"""Evaluation by vLLM: what it needs, and what lm-evaluation-harness's model of it is made with."""

import importlib.util
from collections.abc import Mapping
from typing import Any

import torch
from lm_eval.models.utils import resolve_max_length
from transformers import PreTrainedTokenizerBase

from remit_lit.errors import ConfigError
from remit_lit.models.locations import resolve
from remit_lit.models.spec import ModelSpec

# vLLM generates a token even where only probabilities of the prompt are asked for, and counts the last token that is
# predicted, which transformers is not given.
SPARE = 2


def check_vllm(accelerator: str, devices: int, options: Mapping[str, Any]) -> None:
    """Refuse what vLLM cannot do here, before any model is loaded.

    Args:
        accelerator: cpu, gpu or auto.
        devices: replicas of the model.
        options: further arguments of the harness's model.

    Raises:
        ConfigError: naming the field; vLLM, ray or a GPU is missing, or an option is decided by other fields.
    """
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError("backend: vllm is not installed; pip install 'remit_lit[evaluation,vllm]', or give hf")
    if accelerator == "cpu":
        raise ConfigError("backend: vllm needs a GPU, but accelerator is cpu; give --accelerator=gpu, or hf")
    found, needed = torch.cuda.device_count(), devices * int(options.get("tensor_parallel_size", 1))
    if found < needed:
        raise ConfigError(f"backend: vllm needs {needed} GPU(s), but this machine shows {found}; give hf")
    if devices > 1 and importlib.util.find_spec("ray") is None:
        raise ConfigError(
            f"devices: got {devices}, but ray, by which vLLM runs replicas, is not installed; pip install "
            "'remit_lit[ray]', or give 1"
        )
    ours = {*vllm_arguments(ModelSpec(path=""), None, None, 0, devices, {}), "max_model_len"}
    for name in options:
        if name in ours:
            raise ConfigError(f"vllm.{name}: follows from this command's own fields; set those instead")


def vllm_arguments(
    spec: ModelSpec,
    tokenizer: PreTrainedTokenizerBase | None,
    max_length: int | None,
    seed: int,
    devices: int,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The arguments of ``lm_eval.models.vllm_causallms.VLLM``.

    Args:
        spec: with the path of a model that transformers can load.
        tokenizer: the model's own, which may know the longest input where the model's config does not.
        max_length: window in tokens, as of :class:`remit_lit.evaluation.windowed_model.Windowed`; None is the longest
            that vLLM can have, which is ``SPARE`` tokens less than the model's own.
        seed: of sampling.
        devices: replicas of the model.
        options: further arguments.
    """
    path = spec.path or ""
    longest = max_length
    if max_length is not None:
        longest = min(max_length + SPARE, resolve_max_length(spec.load_config(), tokenizer, default=max_length + SPARE))
    return {
        "pretrained": resolve(path),
        "revision": spec.revision,
        "dtype": spec.dtype,
        "trust_remote_code": spec.trust_remote_code,
        "tokenizer": None if spec.tokenizer is None else resolve(spec.tokenizer),
        "tokenizer_revision": spec.revision if spec.tokenizer is None else None,
        "data_parallel_size": devices,
        "max_length": longest,
        "seed": seed,
        "batch_size": "auto",
        **options,
    }
