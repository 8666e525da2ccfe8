"""A run as ``estimate`` sees it: its step, its data and its memory in every layout."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jsonargparse import Namespace

from remit_lit.data.columns import column_directory, has_facts, read_facts
from remit_lit.data.storage import exists
from remit_lit.estimate.layouts import LAYOUTS, MASTERS, Layout, Memory, spread
from remit_lit.estimate.step import STATES, WEIGHTS, StepMemory, StepSettings, Workload, live, measure_step, spec_of
from remit_lit.models.flops import flops_per_token, forward_flops
from remit_lit.models.loss_head import Recomputed
from remit_lit.models.spec import ModelSpec
from remit_lit.training.datamodule import PackedData
from remit_lit.training.frozen import FrozenModels
from remit_lit.training.optimization import Horizon
from remit_lit.training.planned import num_devices, planned_precision


class RunSettings(StepSettings, Protocol):
    """The settings of ``fit`` that its memory, disk and time depend on.

    Attributes:
        horizon: length of the run.
        activation_checkpointing: which activations are recomputed in backward.
    """

    horizon: Horizon
    activation_checkpointing: Recomputed


class PlannedRun:
    """What a config file plans.

    Args:
        settings: of the model and its training.
        data: built from the config; its rows need not be there.
        trainer: the config's fields of the trainer.

    Attributes:
        gpus: number of GPUs in the config; one where ``trainer.devices`` leaves it to the machine.
        batch_size: rows of a micro-batch.
        accumulate: micro-batches of a step.
        sequence_length: tokens in a row.
        num_rows: rows to train on; None where nothing says how many.
        precision: "32-true", "bf16-mixed" or "bf16-true".
        accelerator: as the config names it.

    Raises:
        ConfigError: a precision that fit refuses, or that is not known here.
    """

    def __init__(self, settings: RunSettings, data: PackedData, trainer: Namespace) -> None:
        self.settings, self.data = settings, data
        self.gpus = num_devices(trainer.devices) * trainer.num_nodes
        self.batch_size, self.accumulate = data.batch_size, trainer.accumulate_grad_batches
        self.sequence_length, self.num_rows = _rows(data)
        self.precision = planned_precision(trainer.precision)
        self.accelerator: str = trainer.accelerator
        self._chooses_rows = settings.weighting.selects_rows and data.subset is None
        self.sizes: Sizes = count(settings.spec, settings.frozen, self.sequence_length)
        self._workload = Workload(
            self.batch_size,
            self.sequence_length,
            document_attention=data.document_attention,
            accumulates=self.accumulate > 1,
            foreach=trainer.accelerator != "cpu",
            chooses_rows=self._chooses_rows,
        )
        self._steps: dict[tuple[bool, Recomputed], StepMemory] = {}

    @property
    def tokens_per_step(self) -> int:
        """Tokens of an optimizer step over the GPUs of the config."""
        return self.gpus * self.accumulate * self.batch_size * self.sequence_length

    @property
    def steps(self) -> int:
        """Optimizer steps of the run."""
        return self.settings.horizon.in_steps(self.tokens_per_step)

    def memory(self, layout: Layout, gpus: int, *, checkpointing: Recomputed) -> Memory:
        """Of each of ``gpus`` processes."""
        return spread(layout, gpus, self.step(layout, checkpointing=checkpointing), self.sizes.trained)

    def step(self, layout: Layout, *, checkpointing: Recomputed) -> StepMemory:
        """Of one process with the types that it computes with in a layout; measured once."""
        in_half = self.precision == "bf16-true" or (layout.stage > 0 and self.precision == "bf16-mixed")
        key = in_half, checkpointing
        if key not in self._steps:
            self._steps[key] = measure_step(
                self.settings,
                self._workload,
                "bfloat16" if in_half else self.settings.spec.dtype,
                autocast=self.precision == "bf16-mixed" and not in_half,
                checkpointing=checkpointing,
            )
        return self._steps[key]

    def columns(self) -> dict[str, int | None]:
        """Bytes on disk of each score column that the run reads, in float16 unless it was scored otherwise."""
        read = self.settings.frozen.columns(chooses_rows=self._chooses_rows)
        tokens = None if self.num_rows is None else self.num_rows * self.sequence_length
        return {name: None if tokens is None else tokens * self._itemsize(name) for name in read}

    def _itemsize(self, column: str) -> int:
        directory = column_directory(self.data.rows_directory, "train", column)
        return (read_facts(directory).stored if has_facts(directory) else np.dtype(np.float16)).itemsize

    def checkpoint(self, layout: Layout) -> float:
        """Bytes of one checkpoint of all processes: weights and optimizer states, under ZeRO with float32 masters."""
        memory = spread(layout, 1, self.step(layout, checkpointing=True), self.sizes.trained)
        return sum(memory.gpu.get(part, 0) for part in (WEIGHTS, STATES, MASTERS))

    @property
    def exported(self) -> int:
        """Bytes of the exported model."""
        return self.step(LAYOUTS[0], checkpointing=True).resident[WEIGHTS]


def _rows(data: PackedData) -> tuple[int, int | None]:
    """Tokens in a row, and the number of rows to train on, of the rows or of what they are to be made from."""
    if exists(data.rows_directory):
        manifest = data.manifest
        return manifest.sequence_length, manifest.counts["train"]["rows"]
    assert data.settings is not None, "PackedData refuses rows that do not exist and cannot be made"
    length, tokens = data.settings.sequence_length, data.settings.num_tokens
    return length, None if tokens is None else tokens // length


@dataclass(frozen=True)
class Sizes:
    """What the models of a run count.

    Attributes:
        name: class of the policy.
        parameters: of the policy, shared ones once.
        embeddings: of them, in input and output embeddings.
        trained: of them, with gradients.
        flops: per token, of the policy's forward and backward, of its first pass where a step is weighed as a whole,
            and of the forward of the frozen models needed in training.
        forward: per token, of the policy's forward.
    """

    name: str
    parameters: int
    embeddings: int
    trained: int
    flops: float
    forward: float


def count(policy: ModelSpec, frozen: FrozenModels, sequence_length: int) -> Sizes:
    """Build the models on the meta device and count.

    Args:
        policy: the model in training.
        frozen: the frozen models of the config.
        sequence_length: tokens in a row.
    """
    needed = live(frozen.needed(chooses_rows=False))
    with torch.device("meta"):
        model = policy.build_empty("model.policy")
        references = [spec_of(reference, policy).build_empty(reference.field) for reference in needed]
    passes = [*references, *([model] if frozen.passes_first else [])]
    parameters = list(model.parameters())
    ends: Any = model.get_input_embeddings(), model.get_output_embeddings()
    embeddings = {id(end.weight): end.weight.numel() for end in ends}
    return Sizes(
        name=type(model).__name__,
        parameters=sum(p.numel() for p in parameters),
        embeddings=sum(embeddings.values()),
        trained=sum(p.numel() for p in parameters if p.requires_grad),
        flops=flops_per_token(model, sequence_length) + sum(forward_flops(m, sequence_length) for m in passes),
        forward=forward_flops(model, sequence_length),
    )
