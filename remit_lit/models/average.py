"""``average``: one model whose weights are the mean of several models' weights."""

import json
import math
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME

from remit_lit.errors import ConfigError, DataError
from remit_lit.files import replaced
from remit_lit.models.export import let_others_read
from remit_lit.models.ingredients import Ingredient, read_ingredients
from remit_lit.models.spec import Dtype
from remit_lit.runs.provenance import now, provenance

AVERAGE_RECORD = "average.json"
"""What went into an average: path, fingerprint and share of each model."""


def average(models: list[str], output: str, weights: list[float] | None = None, dtype: Dtype | None = None) -> Path:
    """Average the weights of models of one architecture, e.g. of runs that differ in the order of their data.

    Model soups (arXiv:2203.05482); OLMo 2 joins its anneals on several orders of the data so (arXiv:2501.00656).
    Sums are in float64. Config, tokenizer and layout of files are the first model's; tied embeddings stay tied.
    In memory are one file of the result and two tensors.

    Args:
        models: two or more: directories of models, folders of runs, or lab/base, lab/sft, lab/reference.
        output: directory to write, which other verbs read as a model.
        weights: a number above 0 for each model, in their order; only ratios count. Null: all alike.
        dtype: of the result; null keeps that of the models, the wider one where they differ.

    Returns:
        The directory, with ``average.json``: which models it is the mean of.

    Raises:
        ConfigError: before any weights are read: there is no such model, one is given twice, ``weights`` do not fit,
            models differ in architecture, tokenizer or tensors, or ``output`` exists.
        DataError: a file is damaged, a tensor has NaN or infinite values, or ``dtype`` cannot hold a mean; names them,
            and nothing is written.
    """
    shares = _shares(models, weights)
    if Path(output).exists():
        raise ConfigError(f"output: {output} exists; give another directory")
    ingredients = read_ingredients(models)
    first = ingredients[0]
    with replaced(Path(output)) as aside, ExitStack() as stack:
        opened = {file: stack.enter_context(safe_open(file, "pt")) for each in ingredients for file in each.files}
        total_bytes, kinds = 0, set[torch.dtype]()
        for file in first.files:
            means: dict[str, Tensor] = {}
            for name in [name for name, its_file in first.file_of.items() if its_file == file]:
                files = [each.file_of[name] for each in ingredients]
                means[name] = _mean(name, (_read(opened[each], each, name) for each in files), shares, dtype)
            save_file(means, aside / file.name, metadata={"format": "pt"})
            total_bytes += sum(mean.nbytes for mean in means.values())
            kinds |= {mean.dtype for mean in means.values() if mean.is_floating_point()}
        _write_the_rest(first, aside, total_bytes, reduce(torch.promote_types, kinds))
        _write_record(ingredients, shares, aside)
        let_others_read(aside)
    return Path(output)


def _shares(models: Sequence[str], weights: Sequence[float] | None) -> list[float]:
    """Positive numbers that add up to 1."""
    if len(models) < 2:
        raise ConfigError(f"models: got {models}; give two or more")
    weights = [1.0] * len(models) if weights is None else weights
    if len(weights) != len(models):
        raise ConfigError(f"weights: got {len(weights)} for {len(models)} models; give one for each")
    for weight in weights:
        if not (math.isfinite(weight) and weight > 0):
            raise ConfigError(f"weights: got {weight}; give numbers above 0, and leave out what is not to count")
    return [weight / math.fsum(weights) for weight in weights]


def _read(opened: Any, file: Path, name: str) -> Tensor:
    tensor: Tensor = opened.get_tensor(name)
    if not torch.isfinite(tensor).all():
        raise DataError(f"models: {file} has NaN or infinite values in the tensor {name}; leave that model out")
    return tensor


def _mean(name: str, tensors: Iterable[Tensor], shares: Sequence[float], dtype: Dtype | None) -> Tensor:
    """Of one tensor of each model, one after the other, in float64; what is no float must be the same in all."""
    total, kept = torch.zeros((), dtype=torch.float64), torch.bool
    for number, (tensor, share) in enumerate(zip(tensors, shares, strict=True)):
        if tensor.is_floating_point():
            total = total.expand(tensor.shape).clone() if number == 0 else total
            total.add_(tensor, alpha=share)
        elif number == 0:
            total = tensor
        elif not torch.equal(total, tensor):
            raise DataError(f"models: the tensor {name} holds whole numbers that differ, which have no mean")
        kept = torch.promote_types(kept, tensor.dtype)
    mean = total.to(getattr(torch, dtype) if dtype is not None and kept.is_floating_point else kept)
    if not torch.isfinite(mean).all():
        raise DataError(f"dtype: {mean.dtype} cannot hold the mean of the tensor {name}; give bfloat16 or float32")
    return mean


def _write_the_rest(first: Ingredient, aside: Path, total_bytes: int, dtype: torch.dtype) -> None:
    """Config, tokenizer and index are the first model's, but for the type and the size of the weights."""
    config = first.spec.load_config("models")
    config.dtype = dtype
    config.save_pretrained(aside)
    first.spec.load_tokenizer().save_pretrained(aside)
    generation = first.directory / "generation_config.json"
    if generation.is_file():
        shutil.copyfile(generation, aside / generation.name)
    if len(first.files) > 1:
        index = json.loads((first.directory / SAFE_WEIGHTS_INDEX_NAME).read_text())
        index["metadata"] = {**index.get("metadata", {}), "total_size": total_bytes}
        (aside / SAFE_WEIGHTS_INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n")


def _write_record(ingredients: Sequence[Ingredient], shares: Sequence[float], aside: Path) -> None:
    """As JSON, and as a model card."""
    parts = [
        {"path": each.given, "fingerprint": each.fingerprint, "share": share}
        for each, share in zip(ingredients, shares, strict=True)
    ]
    record = {**provenance(("torch", "safetensors", "transformers")), "models": parts, "ended": now()}
    (aside / AVERAGE_RECORD).write_text(json.dumps(record, indent=2) + "\n")
    listed = "\n".join(f"- {share:.4g} of `{each.given}`" for each, share in zip(ingredients, shares, strict=True))
    (aside / "README.md").write_text(
        "---\nlibrary_name: transformers\ntags: [mid-training, remit_lit]\n---\n\n"
        f"# The average of {len(parts)} models\n\nThe mean of the weights of\n\n{listed}\n"
    )
