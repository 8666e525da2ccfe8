"""Parameter groups with and without weight decay."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer

from remit_lit.shards import size_of

OptimizerCallable = Callable[[Iterable[Any]], Optimizer]

NoDecay = Literal["embeddings", "vectors"]


def parameter_groups(model: nn.Module, no_decay: Sequence[NoDecay]) -> list[dict[str, Any]]:
    """Two groups: parameters that decay as the optimizer says, and those named by ``no_decay`` with decay 0.

    Args:
        model: the policy.
        no_decay: "embeddings" (input embeddings, and output ones tied to them), "vectors" (norms and biases).
    """
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    exempt: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        is_exempt = ("embeddings" in no_decay and id(parameter) in embeddings) or (
            "vectors" in no_decay and len(size_of(parameter)) < 2
        )
        (exempt if is_exempt else decayed).append(parameter)
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": exempt, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
