"""A model's own logits, and other plain ways to what the training step computes."""

from typing import Any

import torch
from torch import Tensor

from remit_lit.data.batch import Batch
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import LiveReference

CPU = torch.device("cpu")


def live(directory: Any) -> LiveReference:
    reference = LiveReference(ModelSpec(str(directory)))
    reference.load(reference.spec, CPU)
    return reference


def logits_of(model: Any, batch: Batch) -> Tensor:
    logits: Tensor = model(**batch.inputs, use_cache=False).logits
    return logits


def nll_of(model: Any, batch: Batch) -> Tensor:
    logits = logits_of(model, batch)
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch.targets, reduction="none")


def gradients_of(model: Any) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], atol: float = 1e-6) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=atol)
