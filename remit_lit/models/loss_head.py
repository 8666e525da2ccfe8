"""The output embedding as a loss head, and the hidden states it reads."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from remit_lit.errors import ConfigError
from remit_lit.models.packing import packing_known

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Result = TypeVar("Result")

Recomputed = bool | int | Literal["attention"]
"""Which activations backward computes again: none, all layers', every n-th layer's, or those of attention alone."""


class LossHead(nn.Linear):
    """An output embedding that can also compute a loss from hidden states.

    The loss is computed inside ``forward`` so that engines which partition parameters gather the weight around it.
    """

    def forward(self, hidden: Tensor, compute: Callable[[Tensor, Tensor, Tensor | None], Any] | None = None) -> Any:
        """Logits of ``hidden``, [batch, time, vocab]; or ``compute(hidden, weight, bias)``."""
        return super().forward(hidden) if compute is None else compute(hidden, self.weight, self.bias)


def attach_loss_head(model: "PreTrainedModel", field: str) -> None:
    """Turn the model's output embedding into a :class:`LossHead`; keys, tying and saving stay as they were.

    Raises:
        ConfigError: the model's logits are not just a linear map of its hidden states (scaled or soft-capped ones).
    """
    from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

    head = make_loss_head(model, field)
    # The model runs with its body and its head replaced: that needs no weights, so it works where they are sharded.
    places = torch.linspace(-1, 1, 8)[None, :, None]
    hidden = (9 * places).expand(1, 8, head.in_features).to(model.dtype)
    planted = (100 * places).expand(1, 8, head.out_features).to(model.dtype)  # large enough for a cap to show
    received: list[Tensor] = []

    def run_head(states: Tensor) -> Tensor:
        received.append(states)
        return planted

    output: Any = BaseModelOutputWithPastAndCrossAttentions(hidden)
    output.router_logits = None  # of mixtures of experts
    body: Any = model.base_model
    body.forward, head.forward = lambda *_, **__: output, run_head  # type: ignore[method-assign, assignment]
    try:
        logits = model(input_ids=torch.zeros(1, 8, dtype=torch.long), use_cache=False).logits
    finally:
        del body.forward, head.forward
    if not torch.equal(logits, planted.to(logits)) or not torch.equal(received[0], hidden):
        raise ConfigError(f"{field}: {type(model).__name__} scales or caps its logits, which the loss does not support")


def make_loss_head(model: "PreTrainedModel", field: str) -> LossHead:
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear:
        raise ConfigError(f"{field}: {type(model).__name__} has no plain linear output embedding, which the loss needs")
    head.__class__ = LossHead
    assert isinstance(head, LossHead)
    return head


def loss_head(model: nn.Module) -> LossHead:
    """The output embedding of a model that :meth:`ModelSpec.load` built."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    assert isinstance(head, LossHead)
    return head


def check_recomputed(field: str, which: Recomputed) -> None:
    """Raise ConfigError where ``which`` is a number of layers below 1."""
    if not isinstance(which, (bool, str)) and which < 1:
        raise ConfigError(f"{field}: got {which}; give true, false, attention, or n of at least 1 for every n-th layer")


def recompute_activations(model: "PreTrainedModel", which: Recomputed) -> None:
    """Keep only the inputs of some layers, or of their attention, for backward, which computes the rest again.

    Args:
        model: a model of transformers.
        which: every layer (True), every n-th, the first among them, or the attention of each.
    """
    if which == "attention":
        for attention in [module for module in model.modules() if type(module).__name__.endswith("Attention")]:
            attention.forward = partial(checkpoint, attention.forward, use_reentrant=False)  # type: ignore[method-assign]
    elif which:
        model.activation_checkpointing_enable({"use_reentrant": False}, every_n_layers=int(which))


def compile_body(model: "PreTrainedModel", *, by_layer: bool) -> None:
    """Compile the model without its head, as one graph or each layer by itself; parameters keep their names."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [layer for layer in model.base_model.modules() if isinstance(layer, GradientCheckpointingLayer)]
    for part in layers if by_layer and layers else [model.base_model]:
        part.compile()


def hidden_states(model: nn.Module, batch: dict[str, Tensor], *, packed: bool | None = None) -> Tensor:
    """Last hidden states of ``input_ids``, [batch, time, dim].

    ``position_ids`` that start again at 0 within a row keep documents apart: transformers builds the attention mask
    from them when no mask and no cache is given. Flash attention does so for a single row only, so rows are
    joined into one.

    Args:
        model: that :meth:`ModelSpec.load` built.
        batch: ``input_ids`` and ``position_ids``, int64 [batch, time] each.
        packed: whether any row holds several documents; None looks, for which the host waits for the device.
    """
    input_ids, position_ids = batch["input_ids"], batch.get("position_ids")
    joined = position_ids is not None and "flash" in model.config._attn_implementation  # type: ignore[union-attr, operator]
    if joined:
        assert position_ids is not None
        input_ids, position_ids = input_ids.reshape(1, -1), position_ids.reshape(1, -1)
    with packing_known(None if joined else packed):
        output = model.base_model(input_ids=input_ids, position_ids=position_ids, use_cache=False)  # type: ignore[operator]
    hidden: Tensor = output.last_hidden_state
    return hidden.view(*batch["input_ids"].shape, -1) if joined else hidden
