"""``python -m tests.benchmarks gpu``: training and scoring on one GPU, as a table in RESULTS_GPU.md."""

import argparse
import contextlib
import gc
import io
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.throughput import get_available_flops
from transformers import AutoModelForCausalLM, Olmo2Config, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from remit_lit.data.prepare import prepare
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.sources import JsonLines, Source
from remit_lit.models.flops import flops_per_token
from remit_lit.models.spec import ModelSpec
from remit_lit.models.tokenization import load_tokenizer
from remit_lit.reference.reference import CachedReference, LiveReference, Reference
from remit_lit.reference.score import score
from remit_lit.weighting import NextTokenPrediction, ReMiT, TokenWeighting
from tests.benchmarks.setting import text
from tests.benchmarks.steps import TwoFullLogits
from tests.helpers import build

_TOKENS = 4096  # of a step
_WARM, _TIMED = 3, 8
_PACKAGES = ("torch", "lightning", "transformers", "liger-kernel", "cut-cross-entropy")
_RESULTS = "RESULTS_GPU.md"


@dataclass(frozen=True)
class Shape:
    """A model with random weights, and the length of its rows.

    Attributes:
        config: of the model; its tokenizer is the lab's for bytes, whose ids any of these vocabularies holds.
        time: tokens of a row.
    """

    config: dict[str, Any]
    time: int


SHAPES = {
    # allenai/OLMo-2-0425-1B, config.json.
    "olmo2-1b": Shape(
        {
            "vocab_size": 100_352,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 16,
            "num_key_value_heads": 16,
            "max_position_embeddings": 4096,
        },
        4096,
    ),
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
    """The model and the rows of a shape, made in a folder."""

    folder: Path
    shape: Shape
    device: torch.device
    model: Path = field(init=False)
    rows: Path = field(init=False)

    def __post_init__(self) -> None:
        self.model, self.rows = self.folder / "model", self.folder / "rows"
        torch.manual_seed(0)
        config = Olmo2Config(**self.shape.config, tie_word_embeddings=False)
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(self.model)
        load_tokenizer("lab/bytes").save_pretrained(self.model)
        sources: dict[str, Source] = {"text": JsonLines([str(text()[0])])}
        num_tokens = (_WARM + _TIMED + 1) * _TOKENS
        prepare(self.rows, PrepareSettings(str(self.model), sources, self.shape.time, num_tokens=num_tokens))

    @property
    def batch(self) -> int:
        """Rows of a step."""
        return _TOKENS // self.shape.time

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
        if steps == _WARM:
            self.begun = self.finish_work()
        elif steps == _WARM + _TIMED:
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


def kit(inputs: Inputs, weighting: TokenWeighting, reference: Reference | None = None, **options: Any) -> float:
    """Seconds of a step of ``fit``."""
    span = Span(inputs.device)
    settings: dict[str, Any] = {"precision": "bf16-mixed", "gradient_clip_val": 1.0, "log_every_n_steps": 1000}
    with tempfile.TemporaryDirectory() as run_dir:
        run, data = build(
            inputs.rows,
            inputs.model,
            run_dir,
            steps=_WARM + _TIMED,
            batch_size=inputs.batch,
            optimizer=partial(torch.optim.AdamW, lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1, fused=True),
            document_attention=False,
            callbacks=[_FitSpan(span)],
            trainer={**settings, "accelerator": inputs.accelerator},
            weighting=weighting,
            reference=reference,
            **options,
        )
        run.trainer.callbacks.remove(run.recorder)  # type: ignore[attr-defined]
        run.trainer.fit(run.module, datamodule=data)
    return span.seconds / _TIMED


def plain(inputs: Inputs, trainer_class: type[Trainer] = Trainer, *, use_liger_kernel: bool = False) -> float:
    """Seconds of a step of ``transformers.Trainer``."""
    span = Span(inputs.device)
    columns = datasets.load_from_disk(str(inputs.rows / "train")).select_columns(["input_ids"])
    data = columns.map(lambda row: {"labels": row["input_ids"]})
    with tempfile.TemporaryDirectory() as run_dir:
        arguments = TrainingArguments(
            run_dir,
            max_steps=_WARM + _TIMED,
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
    return span.seconds / _TIMED


def scoring(inputs: Inputs, column: str = "bench") -> float:
    """Seconds of scoring as many tokens as a step has."""
    spec, printed = ModelSpec(str(inputs.model), dtype="bfloat16"), io.StringIO()
    options: dict[str, Any] = {"document_attention": False, "batch_tokens": _TOKENS, "verify": 0}
    with contextlib.redirect_stdout(printed):
        score(str(inputs.rows), spec, column, accelerator=inputs.accelerator, **options)
    found = re.search(r"scored ([\d,]+) tokens in ([\d.]+) s", printed.getvalue())
    assert found is not None
    return max(float(found[2]), 0.1) / int(found[1].replace(",", "")) * _TOKENS  # seconds are printed to a tenth


def live(inputs: Inputs) -> LiveReference:
    return LiveReference(ModelSpec(str(inputs.model), dtype="bfloat16"))


VARIANTS: dict[str, Callable[[Inputs], float]] = {
    "`score`": scoring,
    "NTP, `fit`": lambda inputs: kit(inputs, NextTokenPrediction()),
    "NTP, `fit`, layers and loss compiled": lambda inputs: kit(
        inputs, NextTokenPrediction(), compile="layers", compile_loss=True
    ),
    "NTP, `fit`, Liger's loss": lambda inputs: kit(inputs, NextTokenPrediction(), loss_kernel="liger"),
    "NTP, `fit`, cut cross-entropy": lambda inputs: kit(inputs, NextTokenPrediction(), loss_kernel="cut_cross_entropy"),
    "NTP, `transformers.Trainer`": plain,
    "NTP, `transformers.Trainer` with Liger": partial(plain, use_liger_kernel=True),
    "ReMiT with cached scores, `fit`": lambda inputs: kit(inputs, ReMiT(), CachedReference("bench")),
    "ReMiT with cached scores, `fit`, Liger's loss": lambda inputs: kit(
        inputs, ReMiT(), CachedReference("bench"), loss_kernel="liger"
    ),
    "ReMiT with a live reference, `fit`": lambda inputs: kit(inputs, ReMiT(), live(inputs)),
    "ReMiT with two full logits, `transformers.Trainer`": lambda inputs: plain(inputs, TwoFullLogits),
}


def measure(inputs: Inputs, name: str) -> str:
    """One line of the table."""
    gc.collect()
    if inputs.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(inputs.device)
    try:
        seconds = VARIANTS[name](inputs)
    except torch.OutOfMemoryError:
        return f"| {name} | out of memory | | |"
    rate, peak = _TOKENS / seconds, inputs.flops_per_second
    share = inputs.flops_per_token() / (3 if name == "`score`" else 1)
    mfu = "" if peak is None else f"{rate * share / peak:.1%}"
    memory = f"{torch.cuda.max_memory_allocated(inputs.device) / 1e9:.2f}" if inputs.device.type == "cuda" else ""
    return f"| {name} | {rate:,.0f} | {mfu} | {memory} |"


def report(lines: list[str], shape: str, device: torch.device) -> str:
    """The whole of RESULTS_GPU.md."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU, to try this program"
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    head = [
        "# Benchmarks on a GPU",
        "",
        "`python -m tests.benchmarks gpu` wrote this file.",
        "",
        f"{where}; Python {platform.python_version()}, {versions}.",
        "",
        f"{shape} with random weights, {_TOKENS:,} tokens a step, bfloat16 autocast, fused AdamW; {_TIMED} steps after "
        f"{_WARM}. MFU counts the policy's FLOPs only.",
        "",
        "| what | tokens/s | MFU | peak memory, GB |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *lines, ""])


def main(arguments: list[str]) -> None:
    """Measure every variant; RESULTS_GPU.md holds those that are done."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks gpu", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu only tries this program")
    parser.add_argument("--shape", choices=SHAPES, default="olmo2-1b")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help=f"folder of {_RESULTS}")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: no NVIDIA GPU here; nothing was measured")
    device, lines = torch.device(given.device), []
    with tempfile.TemporaryDirectory() as folder:
        inputs = Inputs(Path(folder), SHAPES[given.shape], device)
        for name in given.only:
            lines.append(measure(inputs, name))
            print(lines[-1], flush=True)
            (given.output / _RESULTS).write_text(report(lines, given.shape, device))
