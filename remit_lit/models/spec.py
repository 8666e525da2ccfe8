"""``ModelSpec``: which causal language model, and how it is loaded."""

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerBase

from remit_lit.benchmarks.hub import hub_note
from remit_lit.errors import ConfigError
from remit_lit.models.fingerprint import files_fingerprint
from remit_lit.models.locations import check_location, check_model_path, reading, resolve
from remit_lit.models.loss_head import attach_loss_head, make_loss_head
from remit_lit.models.tokenization import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass
class ModelSpec:
    """A causal language model, and how it is loaded.

    Attributes:
        path: hub id, local directory, or ``lab/base``, ``lab/sft``, ``lab/reference`` (embedded). Null: a fresh model.
        config: of a fresh model, as in its config.json; needs model_type. Only where path is null.
        revision: branch, tag or commit of path on the hub; null is its default branch.
        tokenizer: hub id, local directory, or ``lab/bytes`` (embedded; reads any text); null takes the one at path and
            revision.
        dtype: of the weights; bfloat16 halves the memory of a frozen model. The policy stays in float32 unless
            trainer.precision is bf16-true.
        attn_implementation: auto, sdpa, eager, flex_attention or flash_attention_2. All keep packed documents apart:
            sdpa and eager by a mask of all pairs of tokens, the others by computing nothing between. flex_attention is
            compiled and trains on GPUs only; flash_attention_2 needs a GPU and the package flash-attn. auto: in fit on
            a GPU, where documents are kept apart, flash_attention_2 where its package is there and the run computes in
            half precision, else flex_attention; sdpa everywhere else.
        trust_remote_code: run the model code of the hub repository; only for repositories that you trust.
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
                raise ConfigError(f"{field}.tokenizer: a fresh model has none; give a hub id or directory")
        elif self.path is not None:
            check_model_path(field, self.path)
        if self.tokenizer is not None:
            check_location(f"{field}.tokenizer", self.tokenizer)

    @property
    def _attention(self) -> str:
        return "sdpa" if self.attn_implementation == "auto" else self.attn_implementation

    def fingerprint(self) -> str | None:
        """What identifies the model: the hash of a local directory's files, else the commit on the hub.

        None for a fresh model, which its config and a seed identify.

        Raises:
            ConfigError: ``path`` holds no model.
        """
        if self.path is None:
            return None
        directory = Path(resolve(self.path))
        if directory.is_dir():
            return files_fingerprint(sorted(file for file in directory.iterdir() if file.is_file()))
        return getattr(self.load_config(), "_commit_hash", None) or self.revision

    def load_config(self, field: str = "model") -> PretrainedConfig:
        """The transformers config, without weights.

        Raises:
            ConfigError: ``path`` holds no model, or the model type is unknown.
        """
        self.check(field)
        try:
            if self.config is not None:
                return AutoConfig.for_model(**self.config)
            path = self.path or ""
            with reading(path):
                return AutoConfig.from_pretrained(
                    resolve(path), revision=self.revision, trust_remote_code=self.trust_remote_code
                )
        except (OSError, ValueError) as error:
            what = self.path or "config"
            raise ConfigError(
                f"{field}: {what} is not a model that transformers can load{hub_note()} ({error})"
            ) from error

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, see :func:`remit_lit.models.tokenization.load_tokenizer`."""
        revision = self.revision if self.tokenizer is None else None
        return load_tokenizer(self.tokenizer or self.path or "", revision, trust_remote_code=self.trust_remote_code)

    def load(self, field: str = "model") -> "PreTrainedModel":
        """The model in evaluation mode on the CPU, its output embedding turned into a :class:`LossHead`."""
        # As late as this: models take seconds to import, for which a mistake in a config need not wait.
        from transformers import AutoModelForCausalLM

        config = self.load_config(field)
        options: dict[str, Any] = {
            "attn_implementation": self._attention,
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
                path = self.path or ""
                with reading(path):
                    loaded: Any = AutoModelForCausalLM.from_pretrained(resolve(path), **options)
                model = loaded[0]
                wrong = sorted(map(str, (*loaded[1]["missing_keys"], *loaded[1]["mismatched_keys"])))
        except (OSError, ValueError, ImportError, RuntimeError, SafetensorError, UnpicklingError) as error:
            raise ConfigError(f"{field}: {self.path or 'config'} cannot be loaded{hub_note()} ({error})") from error
        if wrong:
            raise ConfigError(
                f"{field}: {self.path} lacks weights or has weights of other shapes: {wrong[:4]}; give a complete model"
            )
        attach_loss_head(model.eval(), field)
        return model

    def build_empty(self, field: str = "model") -> "PreTrainedModel":
        """The model built from its config alone, in evaluation mode: no weights are read, and its values are random.

        For shapes and counts. On the meta device it takes no memory.

        Raises:
            ConfigError: as :meth:`load`, but for models that scale or cap their logits.
        """
        from transformers import AutoModelForCausalLM

        config = self.load_config(field)
        try:
            model = AutoModelForCausalLM.from_config(
                config,
                dtype=getattr(torch, self.dtype),
                attn_implementation=self._attention,
                trust_remote_code=self.trust_remote_code,
            )
        except (ValueError, ImportError) as error:
            raise ConfigError(f"{field}: {self.path or 'config'} cannot be built ({error})") from error
        make_loss_head(model, field)
        return model.eval()


def label(path: str, revision: str | None) -> str:
    """What to call a model on the terminal: its path, with the revision where one was given."""
    return path if revision is None else f"{path} at {revision}"
