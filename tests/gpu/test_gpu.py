"""A GPU against a CPU: losses, gradients, and runs that go on from a checkpoint."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers.utils.import_utils import is_flash_attn_2_available

from remit_lit.losses import IGNORE_INDEX, kernel_nll, token_nll, weighted_nll
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import LiveReference
from remit_lit.training.objective import weighted_loss
from remit_lit.weighting import NextTokenPrediction, ReMiT, Rho1
from tests.golden.curves import STRATEGIES, curve, make_inputs, read_golden
from tests.helpers import Run, build, get_batch
from tests.training.test_host_reads import CASES, LOGGED

pytestmark = pytest.mark.gpu
# A bfloat16 has 8 bits; 20 steps of training carry its rounding on.
BOUNDS = {"32-true": 1e-3, "bf16-mixed": 2**-6}
NEUTRAL = torch.tensor([0, 1])


@pytest.fixture(scope="module")
def golden_inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return make_inputs(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize("name", STRATEGIES)
def test_golden_curves_are_those_of_a_cpu(accelerator, golden_inputs, tmp_path, name, precision):
    if name == "shuffled":
        pytest.skip("its order is drawn from the device's own random numbers")
    rows, policy, reference = golden_inputs
    trainer = {"accelerator": accelerator, "precision": precision}
    found = curve(name, rows, policy, reference, tmp_path, trainer=trainer)
    golden = read_golden(name)
    assert found["rows"] == golden["rows"]
    assert found["losses"] == pytest.approx(golden["losses"], rel=BOUNDS[precision])


def exact(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """NLLs from whole logits in float64 on the CPU."""
    logits = hidden.double() @ weight.double().T
    return cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORE_INDEX, reduction="none")


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_one_pass_gives_the_loss_and_gradients_of_full_logits(device, dtype, compiled):
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(s, generator=generator).to(dtype) for s in ((3, 50, 64), (1000, 64)))
    targets = torch.randint(0, 1000, (3, 50), generator=generator)
    targets[0, :7] = IGNORE_INDEX
    known = [value.clone().requires_grad_() for value in (hidden, weight)]
    expected = exact(known[0], known[1], targets)
    wanted = torch.autograd.grad((2 * expected).sum(), known)
    given = [value.to(device).requires_grad_() for value in (hidden, weight)]
    options: dict[str, Any] = {"chunk_tokens": 50, "compiled": compiled}

    def twice(_: slice, nll: Tensor) -> Tensor:
        return torch.full_like(nll, 2)

    total, nll = weighted_nll(given[0], given[1], targets.to(device), twice, **options)
    other = token_nll(given[0], given[1], targets.to(device), **options)
    bound = 1e-5 if dtype == torch.float32 else 2**-7
    for found in (nll, other.detach()):
        torch.testing.assert_close(found.cpu().double(), expected.detach(), rtol=1e-5, atol=1e-4)
    for gradient, want in zip(torch.autograd.grad(total, given), wanted, strict=True):
        torch.testing.assert_close(gradient.cpu(), want, rtol=bound, atol=bound * want.abs().max().item())


@pytest.mark.parametrize("kernel", ["liger", "cut_cross_entropy"])
def test_kernels_give_the_losses_and_gradients_of_full_logits(device, kernel):
    if device.type == "cpu":
        pytest.skip("Triton compiles for GPUs only")
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(s, generator=generator).bfloat16() for s in ((3, 50, 64), (1000, 64)))
    targets = torch.randint(0, 1000, (3, 50), generator=generator)
    targets[0, :7] = IGNORE_INDEX
    known, given = ([v.to(place).requires_grad_() for v in (hidden, weight)] for place in ("cpu", device))
    expected = exact(known[0], known[1], targets)
    nll = kernel_nll(kernel, given[0], given[1], targets.to(device))
    # Logits rounded to bfloat16 are off by up to 2^-9 of the largest.
    largest = (hidden.float() @ weight.float().T).abs().max().item()
    torch.testing.assert_close(nll.cpu().double(), expected.detach(), rtol=0, atol=2**-8 * largest)
    wanted = torch.autograd.grad((2 * expected).sum(), known)
    for gradient, want in zip(torch.autograd.grad((2 * nll).sum(), given), wanted, strict=True):
        torch.testing.assert_close(gradient.cpu(), want, rtol=2**-6, atol=2**-6 * want.abs().max().item())


def test_a_run_that_goes_on_is_the_same_to_the_last_bit(
    accelerator, tiny_rows_split, tiny_policy_dir, tiny_reference_dir, tmp_path, monkeypatch
):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

    def run(directory: str, stop: int, resume: str | None = None) -> tuple[Run, str]:
        checkpoint = ModelCheckpoint(tmp_path / directory, every_n_train_steps=stop, save_top_k=-1)
        trainer = {"accelerator": accelerator, "precision": "bf16-mixed", "max_steps": stop, "deterministic": True}
        begun, data = build(
            tiny_rows_split,
            tiny_policy_dir,
            tmp_path / directory,
            steps=6,
            accumulate=2,
            weighting=ReMiT(),
            reference=LiveReference(ModelSpec(str(tiny_reference_dir))),
            optimizer=partial(torch.optim.AdamW, lr=1e-3, fused=True),
            callbacks=[checkpoint],
            trainer=trainer,
        )
        begun.trainer.fit(begun.module, datamodule=data, ckpt_path=resume, weights_only=False)
        return begun, checkpoint.best_model_path

    whole, _ = run("whole", 6)
    _, kept = run("first", 3)
    rest, _ = run("rest", 6, kept)
    assert rest.losses == whole.losses[3:]
    assert all(torch.equal(rest.parameters[name], value) for name, value in whole.parameters.items())


class NoWaits(pl.Callback):
    """An error where the host waits for the GPU between two logs."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("error" if trainer.global_step % LOGGED else "default")

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.get("reference") != "cached"])
def test_the_host_waits_for_nothing_between_two_logs(
    accelerator, tiny_rows_split, tiny_policy_dir, tiny_reference_dir, tmp_path, name
):
    options = dict(CASES[name])
    if "reference" in options:
        options["reference"] = LiveReference(ModelSpec(str(tiny_reference_dir)))
    trainer = {"accelerator": accelerator, "log_every_n_steps": LOGGED, "gradient_clip_val": 1.0}
    options["trainer"] = trainer | options.get("trainer", {})
    fused = partial(torch.optim.AdamW, lr=1e-3, fused=True)
    run, data = build(
        tiny_rows_split,
        tiny_policy_dir,
        tmp_path,
        steps=7,
        accumulate=2,
        optimizer=fused,
        callbacks=[NoWaits()],
        **options,
    )
    run.trainer.callbacks.remove(run.recorder)  # type: ignore[attr-defined]
    run.trainer.fit(run.module, datamodule=data)


@pytest.mark.parametrize(
    "attention",
    [
        "flex_attention",
        pytest.param(
            "flash_attention_2",
            marks=pytest.mark.skipif(not is_flash_attn_2_available(), reason="flash-attn is not installed"),
        ),
    ],
)
def test_attention_gives_the_losses_and_gradients_of_sdpa(device, tiny_rows_split, tiny_policy_dir, attention):
    if device.type == "cpu":
        pytest.skip("it has no gradients on a CPU")
    batch = get_batch(tiny_rows_split, range(3)).to(device)
    found = []
    for name in ("sdpa", attention):
        model = ModelSpec(str(tiny_policy_dir), attn_implementation=name).load().to(device)  # type: ignore[arg-type]
        with torch.autocast(device.type, torch.bfloat16):
            loss = weighted_loss(model, batch, NextTokenPrediction(), neutral_ids=NEUTRAL.to(device))
        loss.total.backward()
        found.append([loss.nll, *(p.grad for p in model.parameters() if p.grad is not None)])
    for expected, other in zip(*found, strict=True):
        torch.testing.assert_close(other, expected, rtol=2**-5, atol=2**-5 * expected.abs().max().item())


def test_a_choice_of_tokens_is_that_of_a_cpu(device, tiny_rows_split, tiny_policy_dir, tiny_reference_dir):
    chosen = []
    for place in (torch.device("cpu"), device):
        policy = ModelSpec(str(tiny_policy_dir)).load().to(place)  # type: ignore[arg-type]
        reference = LiveReference(ModelSpec(str(tiny_reference_dir)))
        reference.load(ModelSpec(str(tiny_policy_dir)), place)
        batch = get_batch(tiny_rows_split, range(4)).to(place)
        loss = weighted_loss(policy, batch, Rho1(), neutral_ids=NEUTRAL.to(place), reference_nll=reference.nll(batch))
        chosen.append(loss.weights.cpu())
    assert (chosen[0] != chosen[1]).float().mean() < 0.01
