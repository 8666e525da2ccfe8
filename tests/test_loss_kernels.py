"""Losses by fused kernels of other packages: against full logits, and what is refused."""

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from remit_lit.errors import ConfigError
from remit_lit.losses import kernel_nll
from remit_lit.weighting import ESLM, NextTokenPrediction, ReMiT, Rho1
from tests.helpers import build

CASES = {
    "liger, float32": ("liger", torch.float32, False),
    "liger, bfloat16": ("liger", torch.bfloat16, False),
    "liger, float32 under autocast to bfloat16": ("liger", torch.bfloat16, True),
    "cut_cross_entropy, float16": ("cut_cross_entropy", torch.float16, False),
    "cut_cross_entropy, float32 under autocast to float16": ("cut_cross_entropy", torch.float16, True),
}
STRATEGIES = {"ntp": NextTokenPrediction, "remit": ReMiT, "rho1": Rho1}
_PACKAGES = ("triton", "liger_kernel", "cut_cross_entropy")
installed = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in _PACKAGES), reason="Triton is for Linux only"
)


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("kernels")
    command = [sys.executable, "-m", "tests.interpreted_kernels", str(folder)]
    # The interpreter is chosen where a kernel is defined, so it takes a process of its own.
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


@installed
@pytest.mark.parametrize("name", CASES)
def test_nlls_and_gradients_are_those_of_full_logits(interpreted, name):
    dtype = CASES[name][1]
    # Kernels round logits and gradients to the type of hidden states; nothing else may be lost.
    bound = 1e-5 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps
    assert max(interpreted["distances"][name].values()) < bound


@installed
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_run_has_the_losses_of_our_own_functions(interpreted, name):
    own, kernel = interpreted["losses"][name]
    assert len(own) == 2
    assert kernel == pytest.approx(own, rel=1e-5)


def test_a_bias_is_refused_by_cut_cross_entropy():
    pytest.importorskip("cut_cross_entropy", reason="Triton is for Linux only")
    bias = torch.zeros(5)
    with pytest.raises(ConfigError, match=r"model\.loss_kernel: got cut_cross_entropy, but .* has a bias; give liger"):
        kernel_nll("cut_cross_entropy", torch.zeros(1, 2, 3), torch.zeros(5, 3), torch.zeros(1, 2).long(), bias=bias)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no GPU": ({}, r"^model\.loss_kernel: got liger, which Triton compiles for GPUs; give null .* \(cpu\)$"),
    "z-loss": ({"z_loss": 1e-5}, r"^model\.z_loss: got 1e-05, but model\.loss_kernel liger gives .* to null$"),
    "entropy": (
        {"weighting": ESLM(0.5, risk="entropy")},
        r"^model\.weighting: it reads the policy's entropy, but model\.loss_kernel liger gives",
    ),
    "compiled": ({"compile_loss": True}, r"^model\.compile_loss: got true, but model\.loss_kernel liger gives"),
}


@installed
@pytest.mark.parametrize("name", REFUSED)
def test_what_a_kernel_cannot_give_is_refused(tiny_rows_split, tiny_policy_dir, tmp_path, name):
    options, message = REFUSED[name]
    settings: dict[str, Any] = {"weighting": NextTokenPrediction(), "loss_kernel": "liger", **options}
    run, data = build(tiny_rows_split, tiny_policy_dir, tmp_path, steps=1, **settings)
    with pytest.raises(ConfigError, match=message):
        run.trainer.fit(run.module, datamodule=data)


@installed
def test_full_precision_is_refused_by_cut_cross_entropy(tiny_rows_split, tiny_policy_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    run, data = build(tiny_rows_split, tiny_policy_dir, tmp_path, steps=1, loss_kernel="cut_cross_entropy")
    with pytest.raises(ConfigError, match=r"^model\.loss_kernel: got cut_cross_entropy, .* set trainer\.precision to"):
        run.trainer.fit(run.module, datamodule=data)


def test_a_missing_package_is_named(tiny_rows_split, tiny_policy_dir, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "triton" else found(name, *rest)
    )
    run, data = build(tiny_rows_split, tiny_policy_dir, tmp_path, steps=1, loss_kernel="liger")
    with pytest.raises(ConfigError, match=r"^model\.loss_kernel: .* the package triton, .* pip install 'remit_lit\["):
        run.trainer.fit(run.module, datamodule=data)
