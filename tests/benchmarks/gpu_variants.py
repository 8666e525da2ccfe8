"""What ``python -m tests.benchmarks gpu`` measures: a model's training and scoring in several ways."""

import contextlib
import io
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import lightning.pytorch as pl
import torch
import yaml  # type: ignore[import-untyped]
from lightning.fabric.utilities.throughput import get_available_flops
from transformers import AutoModelForCausalLM, Olmo2Config, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from remit_lit.data.columns import column_directory
from remit_lit.data.prepare import prepare
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.sources import JsonLines, Source
from remit_lit.estimate.step import Workload, measure_step
from remit_lit.models.flops import flops_per_token
from remit_lit.models.spec import ModelSpec
from remit_lit.models.tokenization import load_tokenizer
from remit_lit.reference.reference import CachedReference, LiveReference, Reference
from remit_lit.reference.score import score
from remit_lit.training.module import MidTrainingModule
from remit_lit.training.optimization import Horizon
from remit_lit.weighting import NextTokenPrediction, ReMiT, TokenWeighting
from tests.benchmarks.setting import text
from tests.benchmarks.steps import TwoFullLogits
from tests.helpers import build
from tests.processes import ROOT

WARM, TIMED = 3, 8
"""Steps before the clock starts, and while it runs."""
# Of the device's memory that an estimate may take: allocators keep some, and estimates may be off.
_USABLE = 0.8
_MOST_ROWS, _ROWS_ON_A_CPU = 64, 4


@dataclass(frozen=True)
class Shape:
    """A model with random weights, and the length of its rows.

    Attributes:
        config: of the model; its tokenizer is the lab's for bytes, whose ids any of these vocabularies holds.
        time: tokens of a row.
    """

    config: dict[str, Any]
    time: int


_OLMO2_1B = yaml.safe_load((ROOT / "experiments/shapes/olmo2_1b.yaml").read_text())["model"]["policy"]["config"]
SHAPES = {
    "olmo2-1b": Shape(_OLMO2_1B, _OLMO2_1B["max_position_embeddings"]),
    "tiny": Shape(
        {
            "vocab_size": 512,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
        },
        256,
    ),
}


@dataclass
class Inputs:
    """The model and the rows of a shape, made in a folder.

    Attributes:
        batch: rows of a step: as many, by powers of two, as `estimate` says fit with a live reference.
    """

    folder: Path
    shape: Shape
    device: torch.device
    model: Path = field(init=False)
    rows: Path = field(init=False)
    batch: int = 1

    def __post_init__(self) -> None:
        self.model, self.rows = self.folder / "model", self.folder / "rows"
        torch.manual_seed(0)
        config = Olmo2Config(**{**self.shape.config, "tie_word_embeddings": False})
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(self.model)
        load_tokenizer("lab/bytes").save_pretrained(self.model)
        sources: dict[str, Source] = {"text": JsonLines([str(text()[0])])}
        self.batch = self._largest_batch()
        num_tokens = (WARM + TIMED + 1) * self.tokens
        prepare(self.rows, PrepareSettings(str(self.model), sources, self.shape.time, num_tokens=num_tokens))

    @property
    def tokens(self) -> int:
        """Of a step."""
        return self.batch * self.shape.time

    def _largest_batch(self) -> int:
        if self.device.type == "cpu":
            return _ROWS_ON_A_CPU
        room = _USABLE * torch.cuda.get_device_properties(self.device).total_memory
        heaviest, batch = VARIANTS[_HEAVIEST], 1
        assert isinstance(heaviest, Fit)
        while batch < _MOST_ROWS and heaviest.estimate(self, 2 * batch) <= room:
            batch *= 2
        return batch

    @property
    def accelerator(self) -> str:
        return "gpu" if self.device.type == "cuda" else "cpu"

    @property
    def flops_per_second(self) -> int | None:
        """The device's peak in bfloat16; None where Lightning does not know it."""
        known = get_available_flops(self.device, torch.bfloat16) if self.device.type == "cuda" else None
        return None if known is None else int(known)

    def flops_per_token(self) -> float:
        """Of forward and backward."""
        with torch.device("meta"):
            return flops_per_token(ModelSpec(str(self.model)).build_empty(), self.shape.time)


class Span:
    """Seconds from the end of the warm-up to now, with everything that the device was given done."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.begun, self.seconds = device, 0.0, 0.0

    def finish_work(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def at(self, steps: int) -> None:
        """``steps`` are done."""
        if steps == WARM:
            self.begun = self.finish_work()
        elif steps == WARM + TIMED:
            self.seconds = self.finish_work() - self.begun


class _FitSpan(pl.Callback):
    def __init__(self, span: Span) -> None:
        self.span = span

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.span.at(trainer.global_step)


class _TrainerSpan(TrainerCallback):
    def __init__(self, span: Span) -> None:
        self.span = span

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.span.at(state.global_step)


@dataclass(frozen=True)
class Fit:
    """A variant that `fit` trains.

    Attributes:
        weighting: the strategy.
        reference: what it compares with.
        options: of the module.
    """

    weighting: Callable[[], TokenWeighting]
    reference: Callable[[Inputs], Reference] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, inputs: Inputs, *callbacks: pl.Callback) -> float:
        """Seconds of a step."""
        span = Span(inputs.device)
        settings: dict[str, Any] = {"precision": "bf16-mixed", "gradient_clip_val": 1.0, "log_every_n_steps": 1000}
        with tempfile.TemporaryDirectory() as run_dir:
            run, data = build(
                inputs.rows,
                inputs.model,
                run_dir,
                steps=WARM + TIMED,
                batch_size=inputs.batch,
                document_attention=False,
                callbacks=[_FitSpan(span), *callbacks],
                trainer={**settings, "accelerator": inputs.accelerator},
                **self._module(inputs),
            )
            run.trainer.callbacks.remove(run.recorder)  # type: ignore[attr-defined]
            run.trainer.fit(run.module, datamodule=data)
        return span.seconds / TIMED

    def estimate(self, inputs: Inputs, batch: int) -> int:
        """Bytes at the peak of a step of so many rows, as `estimate` counts them; not of compiled code or kernels."""
        module = MidTrainingModule(ModelSpec(str(inputs.model)), horizon=Horizon(1), **self._module(inputs))
        workload = Workload(batch, inputs.shape.time, document_attention=False, foreach=False)
        return sum(measure_step(module, workload, "float32", autocast=True, checkpointing=False).peak.values())

    def _module(self, inputs: Inputs) -> dict[str, Any]:
        adamw = partial(torch.optim.AdamW, lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
        reference = None if self.reference is None else self.reference(inputs)
        return {"optimizer": adamw, "weighting": self.weighting(), "reference": reference, **self.options}


def plain(inputs: Inputs, *, trainer_class: type[Trainer] = Trainer, use_liger_kernel: bool = False) -> float:
    """Seconds of a step of ``transformers.Trainer``."""
    span = Span(inputs.device)
    columns = datasets.load_from_disk(str(inputs.rows / "train")).select_columns(["input_ids"])
    data = columns.map(lambda row: {"labels": row["input_ids"]})
    with tempfile.TemporaryDirectory() as run_dir:
        arguments = TrainingArguments(
            run_dir,
            max_steps=WARM + TIMED,
            per_device_train_batch_size=inputs.batch,
            learning_rate=1e-5,
            adam_beta2=0.95,
            weight_decay=0.1,
            max_grad_norm=1.0,
            bf16=True,
            use_liger_kernel=use_liger_kernel,
            optim="adamw_torch_fused",
            logging_steps=1000,
            report_to=[],
            save_strategy="no",
            use_cpu=inputs.device.type == "cpu",
            disable_tqdm=True,
        )
        policy = AutoModelForCausalLM.from_pretrained(inputs.model, dtype=torch.float32)
        trainer = trainer_class(policy, arguments, train_dataset=data, callbacks=[_TrainerSpan(span)])
        trainer.remove_callback(PrinterCallback)
        if isinstance(trainer, TwoFullLogits):
            frozen = AutoModelForCausalLM.from_pretrained(inputs.model, dtype=torch.bfloat16)
            trainer.reference = frozen.to(inputs.device).eval()  # type: ignore[arg-type]
        trainer.train()
    return span.seconds / TIMED


def scoring(inputs: Inputs, column: str = "bench") -> float:
    """Seconds of scoring as many tokens as a step has."""
    spec, printed = ModelSpec(str(inputs.model), dtype="bfloat16"), io.StringIO()
    shutil.rmtree(column_directory(inputs.rows, "train", column), ignore_errors=True)
    options: dict[str, Any] = {"document_attention": False, "batch_tokens": inputs.tokens, "verify": 0}
    with contextlib.redirect_stdout(printed):
        score(str(inputs.rows), spec, column, accelerator=inputs.accelerator, **options)
    found = re.search(r"scored ([\d,]+) tokens in ([\d.]+) s", printed.getvalue())
    assert found is not None
    return max(float(found[2]), 0.1) / int(found[1].replace(",", "")) * inputs.tokens  # seconds are printed to a tenth


def cached(_: Inputs) -> CachedReference:
    return CachedReference("bench")


def live(inputs: Inputs) -> LiveReference:
    return LiveReference(ModelSpec(str(inputs.model), dtype="bfloat16"))


PROFILED, _HEAVIEST = "NTP, `fit`", "ReMiT with a live reference, `fit`"
VARIANTS: dict[str, Callable[[Inputs], float]] = {
    "`score`": scoring,
    PROFILED: Fit(NextTokenPrediction),
    "NTP, `fit`, layers and loss compiled": Fit(
        NextTokenPrediction, options={"compile": "layers", "compile_loss": True}
    ),
    "NTP, `fit`, Liger's loss": Fit(NextTokenPrediction, options={"loss_kernel": "liger"}),
    "NTP, `fit`, cut cross-entropy": Fit(NextTokenPrediction, options={"loss_kernel": "cut_cross_entropy"}),
    "NTP, `transformers.Trainer`": plain,
    "NTP, `transformers.Trainer` with Liger": partial(plain, use_liger_kernel=True),
    "ReMiT with cached scores, `fit`": Fit(ReMiT, cached),
    "ReMiT with cached scores, `fit`, Liger's loss": Fit(ReMiT, cached, {"loss_kernel": "liger"}),
    _HEAVIEST: Fit(ReMiT, live),
    "ReMiT with two full logits, `transformers.Trainer`": partial(plain, trainer_class=TwoFullLogits),
}
