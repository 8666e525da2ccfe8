"""Tiny models, tokenizers and rows on local directories, and runs of the module on them."""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from remit_lit.benchmarks.records import Item
from remit_lit.data.batch import Batch
from remit_lit.data.lab_documents import LabDocuments
from remit_lit.data.prepare import prepare
from remit_lit.data.rows import Collate, PackedRows
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.sources import Source
from remit_lit.lab.tokenizer import build_tokenizer
from remit_lit.models.spec import ModelSpec
from remit_lit.training.datamodule import PackedData
from remit_lit.training.module import MidTrainingModule
from remit_lit.training.optimization import Horizon, Linear

VOCAB, TIME = 32, 132

for _name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
    logging.getLogger(_name).setLevel(logging.WARNING)


def llama_config(**changes: Any) -> LlamaConfig:
    """A Llama of 2 layers and 32 dimensions for the lab's tokenizer."""
    settings: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": TIME,
        "initializer_range": 0.1,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    }
    return LlamaConfig(**(settings | changes))


def save_model(directory: Path, seed: int, tokenizer: PreTrainedTokenizerBase | None = None, **changes: Any) -> Path:
    """A random Llama and a tokenizer, the lab's by default, in ``directory``."""
    torch.manual_seed(seed)
    LlamaForCausalLM(llama_config(**changes)).save_pretrained(directory)
    (tokenizer or build_tokenizer()).save_pretrained(directory)
    return directory


def make_rows(
    directory: Path,
    tokenizer: Path,
    sequence_length: int,
    documents: int = 120,
    sources: dict[str, Source] | None = None,
    **settings: Any,
) -> Path:
    """Rows, by default of web documents and of problems with correct solutions; a tenth of them is held out."""
    lab: dict[str, Source] = {"web": LabDocuments("web", documents), "correct": LabDocuments("correct", documents)}
    options = {"validation_share": 0.1, **settings}
    return prepare(directory, PrepareSettings(str(tokenizer), sources or lab, sequence_length, **options))


def get_batch(rows: Path, indices: Iterable[int], *, split: str = "train", document_attention: bool = True) -> Batch:
    """The batch that the data module makes of these rows."""
    packed = PackedRows(rows / split)
    return Collate(document_attention)([packed[index] for index in indices])


class Recorder(pl.Callback):
    """What each optimizer step logged, the rows it trained on, and the weights of its last micro-batch."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []
        self.rows: list[list[int]] = []
        self.weights: list[Tensor] = []
        self._micro_batches: list[int] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._micro_batches += batch.rows.tolist()
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})
            self.rows.append(self._micro_batches)
            assert isinstance(pl_module, MidTrainingModule) and pl_module.last_loss is not None
            self.weights.append(pl_module.last_loss.weights)
            self._micro_batches = []


@dataclass
class Run:
    """A finished run."""

    module: MidTrainingModule
    trainer: pl.Trainer
    recorder: Recorder = field(default_factory=Recorder)

    @property
    def losses(self) -> list[float]:
        return self.logged("train/loss")

    def logged(self, name: str) -> list[float]:
        """The values of one metric, by optimizer step."""
        return [metrics[name] for metrics in self.recorder.metrics]

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.policy.named_parameters()}

    @property
    def policy(self) -> nn.Module:
        assert self.module.policy is not None
        return self.module.policy


def build(
    rows: str | Path,
    policy: str | Path | ModelSpec,
    run_dir: str | Path,
    *,
    steps: int = 4,
    batch_size: int = 2,
    accumulate: int = 1,
    learning_rate: float = 0.1,
    optimizer: Callable[..., torch.optim.Optimizer] | None = None,
    document_attention: bool = True,
    seed: int = 0,
    repeat_chosen: bool = False,
    callbacks: Sequence[pl.Callback] = (),
    trainer: dict[str, Any] | None = None,
    **module: Any,
) -> tuple[Run, PackedData]:
    """A run of the module on the CPU that has not started, and its data; ``module`` goes to MidTrainingModule."""
    spec = policy if isinstance(policy, ModelSpec) else ModelSpec(str(policy))
    options = {"horizon": Horizon(steps=steps), "schedule": Linear(final=1.0), **module}
    built = MidTrainingModule(spec, optimizer or partial(torch.optim.SGD, lr=learning_rate), **options)
    recorder = Recorder()
    settings: dict[str, Any] = {
        "default_root_dir": str(run_dir),
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "accumulate_grad_batches": accumulate,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 0,
        "use_distributed_sampler": False,
        "logger": False,
        "enable_checkpointing": any(isinstance(c, pl.callbacks.ModelCheckpoint) for c in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "callbacks": [*callbacks, recorder],
    }
    data = PackedData(
        str(rows),
        batch_size,
        num_workers=0,
        document_attention=document_attention,
        seed=seed,
        repeat_chosen=repeat_chosen,
    )
    return Run(built, pl.Trainer(**(settings | (trainer or {}))), recorder), data


def fit(rows: str | Path, policy: str | Path | ModelSpec, run_dir: str | Path, **options: Any) -> Run:
    """Train on the CPU with PackedData and MidTrainingModule; ``options`` as in :func:`build`."""
    run, data = build(rows, policy, run_dir, **options)
    run.trainer.fit(run.module, datamodule=data)
    return run


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that an operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [value.numel() for value in tree_leaves(result) if isinstance(value, Tensor)]
        self.elements = max([self.elements, *sizes])
        return result


def gold_bits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, item: Item) -> float:
    """What a model pays for a continuation, in bits, one item at a time and by its own logits."""
    context, gold = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in (item.context, item.continuation)
    )
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([context + gold])).logits[0, len(context) - 1 : -1]  # [gold, vocab]
    log_probabilities = logits.double().log_softmax(-1).gather(1, torch.tensor(gold)[:, None])
    return -log_probabilities.sum().item() / math.log(2)
