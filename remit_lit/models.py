"""Causal language models: where they come from, how they are built, their hidden states, their loss head."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from remit_lit.errors import ConfigError
from remit_lit.paths import check_model_path, resolve
from remit_lit.tokenization import load_tokenizer

Dtype = Literal["float32", "bfloat16", "float16"]
Result = TypeVar("Result")


@dataclass
class ModelSpec:
    """A causal language model, and how it is loaded.

    Attributes:
        path: hub id, local directory, or ``lab/base``, ``lab/sft``, ``lab/reference`` (embedded). Null: a fresh model.
        config: of a fresh model, as in its config.json; needs model_type. Only where path is null.
        revision: branch, tag or commit of path on the hub.
        tokenizer: hub id or local directory; null is path, at its revision.
        dtype: of the weights. The policy stays in float32 unless trainer.precision is bf16-true.
        attn_implementation: sdpa, eager, flex_attention or flash_attention_2.
        trust_remote_code: run code that the hub repository brings.
    """

    path: str | None = None
    config: dict[str, Any] | None = None
    revision: str | None = None
    tokenizer: str | None = None
    dtype: Dtype = "float32"
    attn_implementation: str = "sdpa"
    trust_remote_code: bool = False

    def check(self, field: str) -> None:
        """Refuse what cannot be a model, without loading it.

        Raises:
            ConfigError: naming ``field``.
        """
        if (self.path is None) == (self.config is None):
            raise ConfigError(f"{field}: give either path (a hub id or directory) or config (of a fresh model)")
        if self.config is not None:
            if "model_type" not in self.config:
                raise ConfigError(f"{field}.config: got no model_type; give one that transformers knows, e.g. llama")
            if self.tokenizer is None:
                raise ConfigError(f"{field}.tokenizer: a fresh model brings none; give a hub id or directory")
        elif self.path is not None:
            check_model_path(field, self.path)

    def load_config(self, field: str = "model") -> PretrainedConfig:
        """The transformers config, without weights.

        Raises:
            ConfigError: ``path`` holds no model, or the model type is unknown.
        """
        self.check(field)
        try:
            if self.config is not None:
                return AutoConfig.for_model(**self.config)
            return AutoConfig.from_pretrained(
                resolve(self.path or ""), revision=self.revision, trust_remote_code=self.trust_remote_code
            )
        except (OSError, ValueError) as error:
            what = self.path or "config"
            raise ConfigError(f"{field}: {what} is no model that transformers can load ({error})") from error

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, see :func:`remit_lit.tokenization.load_tokenizer`."""
        revision = self.revision if self.tokenizer is None else None
        return load_tokenizer(self.tokenizer or self.path or "", revision, trust_remote_code=self.trust_remote_code)

    def load(self, field: str = "model") -> PreTrainedModel:
        """The model in evaluation mode on the CPU, its output embedding turned into a :class:`LossHead`."""
        config = self.load_config(field)
        options: dict[str, Any] = {
            "attn_implementation": self.attn_implementation,
            "trust_remote_code": self.trust_remote_code,
        }
        dtype = getattr(torch, self.dtype)
        wrong: list[str] = []
        try:
            if self.config is not None:
                model = AutoModelForCausalLM.from_config(config, dtype=dtype, **options)
            else:
                # transformers would fill what is missing with random values, and hides which shapes differ.
                options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
                options |= {"revision": self.revision, "dtype": dtype}
                loaded: Any = AutoModelForCausalLM.from_pretrained(resolve(self.path or ""), **options)
                model = loaded[0]
                wrong = sorted(map(str, (*loaded[1]["missing_keys"], *loaded[1]["mismatched_keys"])))
        except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
            raise ConfigError(f"{field}: {self.path or 'config'} cannot be loaded ({error})") from error
        if wrong:
            raise ConfigError(
                f"{field}: {self.path} lacks weights or has others' shapes: {wrong[:4]}; give a whole model"
            )
        attach_loss_head(model.eval(), field)
        return model

    def outline(self, field: str = "model") -> PreTrainedModel:
        """The model by its config alone, in evaluation mode: no weights are read, and what it holds means nothing.

        For what asks only for shapes. Made with tensors that have no values, it takes no memory.

        Raises:
            ConfigError: as :meth:`load`, but for models that scale or cap their logits.
        """
        config = self.load_config(field)
        try:
            model = AutoModelForCausalLM.from_config(
                config,
                dtype=getattr(torch, self.dtype),
                attn_implementation=self.attn_implementation,
                trust_remote_code=self.trust_remote_code,
            )
        except (ValueError, ImportError) as error:
            raise ConfigError(f"{field}: {self.path or 'config'} cannot be built ({error})") from error
        _make_loss_head(model, field)
        return model.eval()


class LossHead(nn.Linear):
    """An output embedding that can also compute a loss from hidden states.

    The loss is computed inside ``forward`` so that engines which partition parameters gather the weight around it.
    """

    def forward(self, hidden: Tensor, compute: Callable[[Tensor, Tensor, Tensor | None], Any] | None = None) -> Any:
        """Logits of ``hidden``, [batch, time, vocab]; or ``compute(hidden, weight, bias)``."""
        return super().forward(hidden) if compute is None else compute(hidden, self.weight, self.bias)


@dataclass
class _BodyOutput(BaseModelOutputWithPastAndCrossAttentions):
    router_logits: Any = None  # of mixtures of experts


def attach_loss_head(model: PreTrainedModel, field: str) -> None:
    """Turn the model's output embedding into a :class:`LossHead`; keys, tying and saving stay as they were.

    Raises:
        ConfigError: the model's logits are not just a linear map of its hidden states (scaled or soft-capped ones).
    """
    head = _make_loss_head(model, field)
    # The model runs with its body and its head replaced: that needs no weights, so it works where they are sharded.
    places = torch.linspace(-1, 1, 8)[None, :, None]
    hidden = (9 * places).expand(1, 8, head.in_features).to(model.dtype)
    planted = (100 * places).expand(1, 8, head.out_features).to(model.dtype)  # large enough for a cap to show
    received: list[Tensor] = []

    def run_head(states: Tensor) -> Tensor:
        received.append(states)
        return planted

    body: Any = model.base_model
    body.forward, head.forward = lambda *_, **__: _BodyOutput(hidden), run_head  # type: ignore[method-assign, assignment]
    try:
        logits = model(input_ids=torch.zeros(1, 8, dtype=torch.long), use_cache=False).logits
    finally:
        del body.forward, head.forward
    if not torch.equal(logits, planted.to(logits)) or not torch.equal(received[0], hidden):
        raise ConfigError(f"{field}: {type(model).__name__} scales or caps its logits, which the loss does not support")


def _make_loss_head(model: PreTrainedModel, field: str) -> LossHead:
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


def recompute_activations(model: PreTrainedModel) -> None:
    """Keep only the inputs of the model's layers for backward, which computes the rest again."""
    model.activation_checkpointing_enable({"use_reentrant": False})


def hidden_states(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Last hidden states of ``input_ids``, [batch, time, dim].

    ``position_ids`` that start again at 0 within a row keep documents apart: transformers builds the attention mask
    from them when no mask and no cache is given. Flash attention does so for a single row only, so rows are
    joined into one.
    """
    input_ids, position_ids = batch["input_ids"], batch.get("position_ids")
    joined = position_ids is not None and "flash" in model.config._attn_implementation  # type: ignore[union-attr, operator]
    if joined:
        assert position_ids is not None
        input_ids, position_ids = input_ids.reshape(1, -1), position_ids.reshape(1, -1)
    output = model.base_model(input_ids=input_ids, position_ids=position_ids, use_cache=False)  # type: ignore[operator]
    hidden: Tensor = output.last_hidden_state
    return hidden.view(*batch["input_ids"].shape, -1) if joined else hidden
