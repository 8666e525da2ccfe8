"""A worse policy made of a good model: Gaussian noise on every weight matrix.

The experiment needs a policy that its reference is better than, of the same architecture and tokenizer. Noise gives one
without any training; what it breaks is not what mid-training of a base model improves, so its results are a
check of the method's direction and not of the paper's claims.
"""

from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from remit_lit.errors import ConfigError
from remit_lit.evaluation.build_once import RECIPE_FILE, build_once


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
