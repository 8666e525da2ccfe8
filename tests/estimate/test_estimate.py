"""What a run takes, by shapes alone: counts, who holds what, and the peak against that of real runs."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from remit_lit.cli.dispatch import main
from remit_lit.errors import ConfigError
from remit_lit.estimate.layouts import BUCKETS, GATHERED, LAYOUTS, MASTERS, spread
from remit_lit.estimate.run import Sizes, count
from remit_lit.estimate.step import (
    ACTIVATIONS,
    BACKWARD,
    GRADIENTS,
    INITIAL,
    LOSS,
    REFERENCE,
    STATES,
    UPDATE,
    WEIGHTS,
    StepMemory,
    Workload,
    measure_step,
)
from remit_lit.models.loss_head import Recomputed
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import CachedReference, InitialPolicy, LiveReference
from remit_lit.training.distillation import Distillation
from remit_lit.training.module import MidTrainingModule
from remit_lit.training.optimization import Horizon, OptimizerCallable
from remit_lit.training.planned import num_devices
from remit_lit.weighting import MiniPLM, NextTokenPrediction, ReMiT, Rho1
from tests.cli.test_cli import base_config, refused, write_yaml
from tests.helpers import TIME, llama_config, make_rows
from tests.processes import ROOT

WORKLOAD = Workload(batch_size=2, sequence_length=TIME)
SGD = partial(torch.optim.SGD, lr=0.1)


@pytest.fixture
def no_weights_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading any model's weights fails the test; building one by its config does not."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuse)
    monkeypatch.setattr(torch, "load", refuse)


pytestmark = pytest.mark.usefixtures("no_weights_read")


def module(policy: Path, optimizer: OptimizerCallable = SGD, **settings: Any) -> MidTrainingModule:
    return MidTrainingModule(ModelSpec(str(policy)), optimizer, Horizon(steps=1), **settings)


def measure(
    of: MidTrainingModule, workload: Workload = WORKLOAD, *, autocast: bool = False, checkpointing: Recomputed = False
) -> StepMemory:
    return measure_step(of, workload, "float32", autocast=autocast, checkpointing=checkpointing)


def count_of(of: MidTrainingModule) -> Sizes:
    return count(of.spec, of.frozen, TIME)


def real_model() -> LlamaForCausalLM:
    return LlamaForCausalLM(llama_config())


# Counts.


def test_parameters_are_those_of_the_model(tiny_policy_dir: Path, tiny_reference_dir: Path) -> None:
    sizes = count_of(module(tiny_policy_dir))
    parameters = sum(p.numel() for p in real_model().parameters())
    assert (sizes.parameters, sizes.trained, sizes.embeddings) == (parameters, parameters, 32 * 32)
    assert sizes.name == "LlamaForCausalLM"
    own = 6 * parameters + 12 * 2 * 32 * TIME
    assert sizes.flops == own
    frozen = LiveReference(ModelSpec(str(tiny_reference_dir)))
    assert count_of(module(tiny_policy_dir, weighting=ReMiT(), reference=frozen)).flops == own * 4 / 3
    assert count_of(module(tiny_policy_dir, weighting=Rho1(scope="step"), reference=frozen)).flops == own * 5 / 3


def test_untied_embeddings_count_twice(tmp_path: Path) -> None:
    llama_config(tie_word_embeddings=False).save_pretrained(tmp_path)
    assert count_of(module(tmp_path)).embeddings == 2 * 32 * 32


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD,
        partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        partial(torch.optim.AdamW, lr=0.1),
        partial(torch.optim.AdamW, lr=0.1, amsgrad=True),
        partial(torch.optim.Adafactor, lr=0.1),
    ],
    ids=["SGD", "momentum", "AdamW", "amsgrad", "Adafactor"],
)
def test_optimizer_states_are_those_of_the_optimizer(optimizer: OptimizerCallable, tiny_policy_dir: Path) -> None:
    model = real_model()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    real = optimizer(model.parameters())
    real.step()
    states = [v for state in real.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
    assert measure(module(tiny_policy_dir, optimizer)).resident[STATES] == sum(s.nbytes for s in states)


def test_weights_and_gradients_have_the_type_of_the_weights(tiny_policy_dir: Path) -> None:
    parameters = sum(p.numel() for p in real_model().parameters())
    for dtype, size in (("float32", 4), ("bfloat16", 2)):
        step = measure_step(module(tiny_policy_dir), WORKLOAD, dtype, autocast=False, checkpointing=False)  # type: ignore[arg-type]
        assert step.resident[GRADIENTS] == size * parameters
        assert step.resident[WEIGHTS] == pytest.approx(size * parameters, abs=64)  # and rotary frequencies


def test_activations_are_what_autograd_saves(tiny_policy_dir: Path) -> None:
    model, saved = real_model().train(), {}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.zeros(2, TIME, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = model.model(input_ids=ids, position_ids=ids, use_cache=False).last_hidden_state
    expected = sum(size for pointer, size in saved.items() if pointer not in own) + hidden.nbytes
    assert measure(module(tiny_policy_dir)).activations == pytest.approx(expected, rel=0.03)


def test_checkpointing_leaves_the_inputs_of_the_layers(tmp_path: Path) -> None:
    llama_config(num_hidden_layers=8).save_pretrained(tmp_path)
    plain, half, checkpointed = (measure(module(tmp_path), checkpointing=c) for c in (False, 2, True))
    layer_inputs = 8 * 2 * TIME * 32 * 4
    assert layer_inputs < checkpointed.activations < plain.activations / 4
    assert half.activations == pytest.approx((checkpointed.activations + plain.activations) / 2, rel=0.05)
    assert sum(checkpointed.computed.values()) < sum(plain.computed.values())


def test_autocast_adds_copies_of_the_weights_and_halves_the_rest(tmp_path: Path) -> None:
    llama_config(hidden_size=256, intermediate_size=512, max_position_embeddings=8).save_pretrained(tmp_path)
    few_tokens = Workload(batch_size=1, sequence_length=4)
    full, mixed = (measure(module(tmp_path), few_tokens, autocast=a).activations for a in (False, True))
    layers = sum(p.numel() for p in LlamaForCausalLM(llama_config(hidden_size=256, intermediate_size=512)).parameters())
    copies = 2 * (layers - 32 * 256)  # the embeddings' copy is the loss's
    assert mixed - full == pytest.approx(copies, rel=0.05)


def test_masks_are_counted_where_documents_are_kept_apart(tiny_policy_dir: Path) -> None:
    apart, together = (measure(module(tiny_policy_dir), Workload(2, TIME, d)) for d in (True, False))
    per_layer = 2 * TIME * TIME * 4
    assert apart.activations - together.activations == pytest.approx(2 * per_layer, rel=0.3)
    flash = module(tiny_policy_dir)
    flash.spec.attn_implementation = "flash_attention_2"
    assert measure(flash) == together


def test_gradients_of_earlier_micro_batches_are_there_in_backward(tiny_policy_dir: Path) -> None:
    once, several = (measure(module(tiny_policy_dir), Workload(2, TIME, accumulates=a)).peak for a in (False, True))
    assert several[GRADIENTS] >= once[GRADIENTS]
    assert sum(several.values()) >= sum(once.values())


@pytest.mark.parametrize("path", ["one-pass", "recomputing", "distillation", "column"])
def test_every_path_of_the_loss_is_counted(path: str, tiny_policy_dir: Path, tiny_reference_dir: Path) -> None:
    frozen = LiveReference(ModelSpec(str(tiny_reference_dir)))
    paths: dict[str, dict[str, Any]] = {
        "one-pass": {"weighting": ReMiT(), "reference": frozen},
        "recomputing": {"weighting": Rho1(), "reference": frozen},
        "distillation": {"reference": frozen, "distillation": Distillation()},
        "column": {"distillation": Distillation(column="top")},
    }
    step = measure(module(tiny_policy_dir, **paths[path]))
    logits = 2 * TIME * 32 * 4
    assert step.computed[LOSS] + step.computed[BACKWARD] >= logits * (2 if path in ("distillation", "column") else 1)


class Unique(torch.optim.SGD):
    """An optimizer whose memory depends on values."""

    def step(self, closure: Any = None) -> Any:
        torch.unique(self.param_groups[0]["params"][0])


def test_what_depends_on_values_is_refused(tiny_policy_dir: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be computed without values"):
        measure(module(tiny_policy_dir, partial(Unique, lr=0.1)))


# Frozen models.


def test_only_frozen_models_that_training_asks_are_counted(tiny_policy_dir: Path, tiny_reference_dir: Path) -> None:
    spec = ModelSpec(str(tiny_reference_dir))
    half = ModelSpec(str(tiny_reference_dir), dtype="bfloat16")
    size = 4 * sum(p.numel() for p in real_model().parameters())

    def held(**settings: Any) -> tuple[int, int]:
        resident = measure(module(tiny_policy_dir, **settings)).resident
        return tuple(round(resident[part] / size, 2) for part in (REFERENCE, INITIAL))  # type: ignore[return-value]

    assert held(weighting=ReMiT(), reference=LiveReference(spec)) == (1, 0)
    assert held(weighting=ReMiT(), reference=LiveReference(half)) == (0.5, 0)
    assert held(weighting=ReMiT(), reference=LiveReference(spec), base=InitialPolicy()) == (1, 1)
    assert held(weighting=ReMiT(), reference=LiveReference(spec, device="cuda:1")) == (0, 0)
    assert held(weighting=ReMiT(), reference=CachedReference("nll")) == (0, 0)
    assert held(weighting=NextTokenPrediction(), reference=LiveReference(spec)) == (0, 0)
    assert held(reference=LiveReference(spec), distillation=Distillation()) == (1, 0)
    assert held(weighting=MiniPLM(), reference=LiveReference(spec)) == (0, 0)


def test_models_that_choose_rows_are_there_before_training(tiny_policy_dir: Path, tiny_reference_dir: Path) -> None:
    choosing = module(tiny_policy_dir, weighting=MiniPLM(), reference=LiveReference(ModelSpec(str(tiny_reference_dir))))
    step = measure(choosing, Workload(2, TIME, chooses_rows=True))
    assert step.choosing == 3 * step.resident[WEIGHTS]
    assert spread(LAYOUTS[0], 1, replace(step, choosing=10**9), P).total == 10**9
    assert measure(choosing).choosing == 0


# Layouts.

P = 10**9
STEP = StepMemory(
    resident={WEIGHTS: 2 * P, GRADIENTS: 2 * P, STATES: 4 * P, REFERENCE: 7, INITIAL: 0},
    peak={WEIGHTS: 2 * P, GRADIENTS: 2 * P, STATES: 4 * P, ACTIVATIONS: 30 * P, REFERENCE: 7},
    computed={ACTIVATIONS: 30 * P, LOSS: P, BACKWARD: 0},
    update={ACTIVATIONS: 0, LOSS: P, BACKWARD: 0, UPDATE: 2 * P},
    activations=30 * P,
    choosing=0,
)


@pytest.mark.parametrize("gpus", [1, 8, 64])
def test_zero_shares_states_then_gradients_then_weights(gpus: int) -> None:
    """2 bytes a parameter for weights, 4 for gradients, 4 for masters and 8 for AdamW's moments (ZeRO, section 3, but
    for the gradients, which are summed in float32)."""
    shared = [18 * P, 6 * P + 12 * P / gpus, 2 * P + 16 * P / gpus, 18 * P / gpus]
    buffers = [0, 16e8, 16e8, 12e8 + 2 * P]  # two buckets, or one and the weights gathered; one more in float32
    for layout, states, extra in list(zip(LAYOUTS, shared, buffers, strict=False))[1:]:
        memory = spread(layout, gpus, STEP, P)
        assert memory.total == pytest.approx(states + extra + 31 * P + 7)
        assert memory.host == 0
    assert spread(LAYOUTS[0], gpus, STEP, P).gpu[BUCKETS] == (2 * P if gpus > 1 else 0)


def test_offloading_leaves_weights_and_activations_on_the_gpu() -> None:
    memory = spread(LAYOUTS[4], 8, STEP, P)
    assert {part for part, size in memory.gpu.items() if size} == {
        WEIGHTS,
        GATHERED,
        BUCKETS,
        REFERENCE,
        ACTIVATIONS,
        LOSS,
    }
    # float32 gradients, masters, moments and a flat copy of gradients, and twice what the optimizer took in bf16
    assert memory.host == (4 + 4 + 8 + 4 + 4) * P / 8


def test_the_optimizer_step_can_be_the_peak() -> None:
    small = StepMemory(STEP.resident, STEP.peak, {ACTIVATIONS: P, LOSS: P, BACKWARD: 0}, STEP.update, P, 0)
    gpu = spread(LAYOUTS[2], 1, small, P).gpu
    assert gpu[UPDATE] == 4 * P + 2 * 2 * P
    assert gpu[ACTIVATIONS] == 0
    assert gpu[MASTERS] == 4 * P


@pytest.mark.parametrize(
    ("devices", "expected"), [(8, 8), ("8", 8), ([0, 3], 2), ("0,3", 2), ("auto", 1), (-1, 1), ("-1", 1)]
)
def test_devices_are_counted_as_lightning_reads_them(devices: Any, expected: int) -> None:
    assert num_devices(devices) == expected


# The verb.


@pytest.fixture
def base(tmp_path: Path, tiny_rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path) -> str:
    """A config file of a fit."""
    config = base_config(tiny_rows, tiny_policy_dir, tiny_reference_dir) | {"run_dir": str(tmp_path / "run")}
    return write_yaml(tmp_path / "base.yaml", config)


def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setenv("COLUMNS", "110")
    main(["estimate", *arguments])
    return capsys.readouterr().out


def test_the_report(base: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(capsys, monkeypatch, "--config", base, "--gpus=[1,2]", "--flops_per_second=1e9", "--mfu=0.5")
    parameters = sum(p.numel() for p in real_model().parameters())
    assert f"ReMiT on LlamaForCausalLM: {parameters:,} parameters, 1,024 of them in embeddings" in text
    assert f"a step: 1 GPU x 1 micro-batch x 2 rows x {TIME} tokens; the run: 8 steps, {8 * 2 * TIME:,}" in text
    for part in ("live reference", "float32 master weights", "ZeRO-3, offload", "a checkpoint: 0.00 GB"):
        assert part in text
    assert max(map(len, text.splitlines()[2:30])) <= 110
    flops = (6 * parameters + 12 * 2 * 32 * TIME) * 4 / 3
    (rates,) = re.findall(r"tokens/s\D+([\d,]+)\D+([\d,]+)", text)
    assert [int(rate.replace(",", "")) for rate in rates] == [round(n * 0.5e9 / flops) for n in (1, 2)]
    assert not Path(base).with_name("run").exists()


@pytest.mark.parametrize(
    ("units", "precision", "advice"),
    [
        ({"avx512_bf16": True}, "32-true", "--trainer.precision=bf16-mixed should be faster"),
        ({"avx512_bf16": True}, "bf16-mixed", ""),
        ({"avx512_bf16": False}, "bf16-mixed", "--trainer.precision=32-true should be faster than bf16-mixed"),
        ({}, "32-true", ""),
    ],
)
def test_the_faster_precision_of_a_cpu_is_said(
    base: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    units: dict[str, bool],
    precision: str,
    advice: str,
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: units)
    given = ["--config", base, "--gpus=[1]", "--trainer.accelerator=cpu", f"--trainer.precision={precision}"]
    text = printed(capsys, monkeypatch, *given)
    assert ("should be faster" in text) == bool(advice) and advice in text


def test_what_does_not_fit_is_in_brackets(
    base: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    little = printed(capsys, monkeypatch, "--config", base, "--gpu_memory=1")
    assert little.count("(") - printed(capsys, monkeypatch, "--config", base).count("(") >= 20


def test_the_checkpointing_that_the_config_asks_for_is_compared(
    base: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = printed(capsys, monkeypatch, "--config", base, "--model.activation_checkpointing=2", "--gpus=[1]")
    assert "activation checkpointing: 1 layer of 2" in text and len(re.findall(r"│ 1 layer of 2 +│", text)) == len(
        LAYOUTS
    )


def test_score_columns_take_two_bytes_a_token(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = {
        "tokenizer": "lab/base",
        "sequence_length": TIME,
        "num_tokens": 10**9,
        "sources": {"web": {"class_path": "Parquet", "init_args": {"files": "not/there/yet/*.parquet"}}},
    }
    overlay = write_yaml(tmp_path / "cached.yaml", {"data": {"rows": str(tmp_path / "none"), "prepare": prepare}})
    cached = ("--model.reference=CachedReference", "--model.reference.column=nll_rl")
    text = printed(capsys, monkeypatch, "--config", base, "--config", overlay, *cached)
    assert "score column nll_rl: 2.00 GB" in text
    assert "live reference " not in text.split("a checkpoint")[0]


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("--data.batchsize=4", ["batchsize", "python -m remit_lit estimate --help"]),
        ("--model.weighting.init_args.epsilon=0", ["epsilon: got 0", "(0.0, 1.0]"]),
        ("--trainer.precision=16-mixed", ["trainer.precision: got 16-mixed", "bf16-mixed"]),
        ("--trainer.precision=64-true", ["trainer.precision: got 64-true", "bf16-mixed"]),
        ("--gpu_memory=0", ["gpu_memory: got 0"]),
        ("--flops_per_second=-1", ["flops_per_second: got -1"]),
        ("--mfu=2", ["mfu: got 2", "(0.0, 1.0]"]),
        ("--gpus=[0]", ["gpus: got [0]", "at least 1"]),
    ],
)
def test_mistakes_are_refused_as_those_of_fit(
    argument: str, parts: list[str], base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, "estimate", "--config", base, argument)
    for part in parts:
        assert part in message


def test_the_saved_config_of_a_run_can_be_estimated(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # this run reads its weights
    main(["fit", "--config", base])
    capsys.readouterr()
    main(["estimate", "--config", str(tmp_path / "run" / "config.yaml")])
    assert "ReMiT on LlamaForCausalLM" in capsys.readouterr().out


# The peak of real runs.

LLAMA = {
    "model_type": "llama",
    "vocab_size": 8192,
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
ADAMW = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.001}}
RUNS: dict[str, dict[str, Any]] = {
    "AdamW, next-token prediction": {"optimizer": ADAMW, "time": 256, "rows": 2},
    "AdamW, ReMiT with a live reference, checkpointing": {
        "optimizer": ADAMW,
        "weighting": "ReMiT",
        "activation_checkpointing": True,
        "time": 512,
        "rows": 2,
    },
    "SGD, RHO-1 with a live reference, accumulation": {
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.001}},
        "weighting": "Rho1",
        "time": 128,
        "rows": 6,
        "accumulate": 2,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_estimate_is_within_15_percent_of_the_measured_peak(
    name: str, tmp_path: Path, tiny_tokenizer_dir: Path
) -> None:
    run = RUNS[name]
    spec = {"config": LLAMA, "tokenizer": str(tiny_tokenizer_dir)}
    rows = make_rows(tmp_path / "rows", tiny_tokenizer_dir, run["time"], documents=400)
    config = {
        "model": {
            "policy": spec,
            "weighting": {"class_path": run.get("weighting", "NextTokenPrediction")},
            "reference": {"class_path": "LiveReference", "init_args": {"model": spec}},
            "optimizer": run["optimizer"],
            "horizon": {"steps": 2},
            "activation_checkpointing": run.get("activation_checkpointing", False),
        },
        "data": {"rows": str(rows), "batch_size": run["rows"], "num_workers": 0},
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "accumulate_grad_batches": run.get("accumulate", 1),
            "num_sanity_val_steps": 0,
            "limit_val_batches": 0,
            "callbacks": [{"class_path": "tests.peak.PeakMemory", "init_args": {"path": str(tmp_path / "peak")}}],
        },
        "checkpoint": {"at_end": False},
        "run_dir": str(tmp_path / "run"),
    }
    arguments = ["--config", write_yaml(tmp_path / "run.yaml", config)]
    # Freed tensors go back to the system at once, as they do to a GPU's allocator.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}

    def remit_lit(verb: str, *more: str) -> str:
        command = [sys.executable, "-m", "remit_lit", verb, *arguments, *more]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=300
        ).stdout

    remit_lit("fit")
    measured = int((tmp_path / "peak").read_text())
    (estimated,) = re.findall(r"│ total +│ +([\d.]+)", remit_lit("estimate", "--gpus=[1]"))
    assert float(estimated) * 1e9 == pytest.approx(measured, rel=0.15)
