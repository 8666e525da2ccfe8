"""What the module logs, what it refuses, and where it stops."""

from functools import partial
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import AutoModelForCausalLM
from transformers.utils.import_utils import is_flash_attn_2_available

from remit_lit.errors import ConfigError, NonFiniteError
from remit_lit.models.attention import settled_attention
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import CachedReference, LiveReference
from remit_lit.training.distillation import Distillation
from remit_lit.training.module import MidTrainingModule
from remit_lit.training.optimization import Horizon
from remit_lit.weighting import MiniPLM, ReMiT, Rho1
from tests.helpers import TIME, Run, build, fit, get_batch, save_model
from tests.training.plain import nll_of


def test_validation_takes_the_mean_over_the_tokens_of_each_source(tiny_rows_split, tiny_policy_dir, tmp_path):
    run, data = build(tiny_rows_split, tiny_policy_dir, tmp_path, batch_size=4, trainer={"limit_val_batches": 1.0})
    (found,) = run.trainer.validate(run.module, data, verbose=False)
    model, rows = (
        AutoModelForCausalLM.from_pretrained(tiny_policy_dir),
        range(data.manifest.counts["validation"]["rows"]),
    )
    batch = get_batch(tiny_rows_split, rows, split="validation")
    with torch.no_grad():
        nll = nll_of(model, batch)
    mask = batch.mask
    for index, source in enumerate(("web", "correct")):
        chosen = mask & (batch.source_ids == index)
        assert found[f"val/nll/{source}"] == pytest.approx(nll[chosen].double().mean().item(), rel=1e-6)
    assert found["val/nll"] == pytest.approx(nll[mask].double().mean().item(), rel=1e-6)


class Poison(pl.Callback):
    """Spoil the weights, or the gradients, from ``step`` on."""

    def __init__(self, step: int, *, gradient: bool = False) -> None:
        self.step, self.gradient = step, gradient

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step and not self.gradient:
            with torch.no_grad():
                pl_module.policy.model.layers[0].mlp.up_proj.weight[3, 3] = float("nan")

    def on_after_backward(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.global_step == self.step and self.gradient:
            pl_module.policy.model.layers[0].mlp.up_proj.weight.grad[3, 3] = float("inf")


def check_last_checkpoint(run: Run, checkpoint: ModelCheckpoint, policy: Any, step: int) -> None:
    saved = torch.load(checkpoint.last_model_path, weights_only=False)
    assert saved["global_step"] == step
    assert all(torch.isfinite(value).all() for value in saved["state_dict"].values())
    assert all(torch.isfinite(p).all() for p in saved["optimizer_states"][0]["state"].get(0, {}).values())
    model = AutoModelForCausalLM.from_pretrained(policy)
    model.load_state_dict({name.removeprefix("policy."): value for name, value in saved["state_dict"].items()})


@pytest.mark.parametrize("gradient", [False, True], ids=["loss", "gradient"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_that_breaks_stops_and_keeps_the_last_checkpoint(
    tiny_rows_split, tiny_policy_dir, tmp_path, gradient, accumulate
):
    clean = fit(tiny_rows_split, tiny_policy_dir, tmp_path, accumulate=accumulate)
    checkpoint = ModelCheckpoint(tmp_path / "checkpoints", every_n_train_steps=1, save_last=True)
    run, data = build(
        tiny_rows_split,
        tiny_policy_dir,
        tmp_path,
        accumulate=accumulate,
        optimizer=partial(torch.optim.Adam, lr=1e-3),
        callbacks=[checkpoint, Poison(2, gradient=gradient)],
    )
    rows = clean.recorder.rows[2] if gradient else clean.recorder.rows[2][:2]
    with pytest.raises(NonFiniteError, match=r"step 2.*(inf|nan)") as raised:
        run.trainer.fit(run.module, datamodule=data)
    assert str(rows) in str(raised.value)
    check_last_checkpoint(run, checkpoint, tiny_policy_dir, step=2)


def test_a_run_with_an_absurd_learning_rate_stops(tiny_rows_split, tiny_policy_dir, tmp_path):
    clean = fit(tiny_rows_split, tiny_policy_dir, tmp_path)
    checkpoint = ModelCheckpoint(tmp_path / "checkpoints", every_n_train_steps=1, save_last=True)
    with pytest.raises(NonFiniteError, match=r"step 1.*(inf|nan)") as raised:
        fit(tiny_rows_split, tiny_policy_dir, tmp_path, learning_rate=1e30, callbacks=[checkpoint])
    assert str(clean.recorder.rows[1]) in str(raised.value)
    saved = torch.load(checkpoint.last_model_path, weights_only=False)
    assert saved["global_step"] == 1
    assert all(torch.isfinite(value).all() for value in saved["state_dict"].values())


def test_what_contradicts_itself_is_refused(tiny_policy_dir, tmp_path):
    def module(policy: Any = None, **settings: Any) -> MidTrainingModule:
        spec = policy or ModelSpec(str(tiny_policy_dir))
        return MidTrainingModule(spec, torch.optim.SGD, **({"horizon": Horizon(steps=1)} | settings))

    for weighting in (ReMiT(), Rho1(), MiniPLM()):
        with pytest.raises(ConfigError, match=rf"model\.reference: {type(weighting).__name__} compares"):
            module(weighting=weighting)
    for reference, given in ((None, "none"), (CachedReference("nll_rl"), "CachedReference")):
        with pytest.raises(ConfigError, match=rf"model\.reference: distillation .* got {given}, give a LiveReference"):
            module(distillation=Distillation(), reference=reference)
    for value in (-1e-5, float("nan")):
        with pytest.raises(ConfigError, match=rf"model\.z_loss: got {value}"):
            module(z_loss=value)
    with pytest.raises(ConfigError, match=r"model\.horizon: got"):
        module(horizon=Horizon())
    with pytest.raises(ConfigError, match=r"model\.policy\.path: .* is neither a directory nor a hub id"):
        module(ModelSpec(str(tmp_path / "nowhere")))
    with pytest.raises(ConfigError, match="policy: give either path"):
        module(ModelSpec())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trainer": {"precision": "16-true"}}, r"trainer\.precision: got 16-true"),
        ({"trainer": {"max_epochs": 2}}, r"trainer\.max_epochs: got 2"),
        ({"trainer": {"max_steps": 5}}, r"trainer\.max_steps: got 5.*horizon of 4"),
        ({"horizon": Horizon(tokens=99)}, r"horizon\.tokens: got 99, less than one step of 100"),
    ],
)
def test_what_does_not_fit_the_run_is_refused(tiny_rows_split, tiny_policy_dir, tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        fit(tiny_rows_split, tiny_policy_dir, tmp_path, **settings)


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        pytest.param(
            "flash_attention_2",
            r"model\.policy\.attn_implementation: got flash_attention_2, which needs .* flash-attn, not found here",
            marks=pytest.mark.skipif(is_flash_attn_2_available(), reason="flash-attn is installed"),
        ),
        ("flex_attention", r"model\.policy\.attn_implementation: got flex_attention, .* give auto to train on a CPU"),
    ],
)
@pytest.mark.usefixtures("no_weights")
def test_attention_that_cannot_train_here_is_refused(tiny_rows_split, tiny_policy_dir, tmp_path, attention, message):
    with pytest.raises(ConfigError, match=message):
        fit(tiny_rows_split, ModelSpec(str(tiny_policy_dir), attn_implementation=attention), tmp_path)


@pytest.mark.parametrize(
    ("device", "packed", "is_half", "flash", "chosen"),
    [
        ("cpu", True, True, True, "sdpa"),
        ("cuda", False, True, True, "sdpa"),
        ("cuda", True, True, True, "flash_attention_2"),
        ("cuda", True, False, True, "flex_attention"),
        ("cuda", True, True, False, "flex_attention"),
    ],
)
def test_auto_is_the_attention_that_leaves_most_out(monkeypatch, device, packed, is_half, flash, chosen):
    monkeypatch.setattr("remit_lit.models.attention.is_flash_attn_2_available", lambda: flash)
    spec = ModelSpec("lab/base", attn_implementation="auto")
    settled = settled_attention("model.policy", spec, device, packed=packed, is_half=is_half, trains=True)
    assert settled == ModelSpec("lab/base", attn_implementation=chosen)


def test_auto_trains_on_a_cpu_as_sdpa_does(tiny_rows_split, tiny_policy_dir, tiny_reference_dir, tmp_path, caplog):
    found = []
    for name in ("sdpa", "auto"):
        policy = ModelSpec(str(tiny_policy_dir), attn_implementation=name)
        reference = LiveReference(ModelSpec(str(tiny_reference_dir), attn_implementation=name))
        with caplog.at_level("INFO", logger="lightning.pytorch.utilities.rank_zero"):
            found.append(fit(tiny_rows_split, policy, tmp_path, weighting=ReMiT(), reference=reference).losses)
    assert found[0] == found[1]
    assert "model.policy.attn_implementation: auto is sdpa here" in caplog.text


def test_rows_longer_than_the_policy_reads_are_refused(tiny_rows, tmp_path):
    short = save_model(tmp_path / "short", 1, max_position_embeddings=TIME - 1)
    with pytest.raises(ConfigError, match="policy: reads at most 131 tokens"):
        fit(tiny_rows, short, tmp_path)


def test_broken_weights_are_not_taken_for_scaled_logits(tiny_rows_split, tiny_reference_dir, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_reference_dir)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    model.save_pretrained(tmp_path)
    broken = ModelSpec(str(tmp_path), tokenizer=str(tiny_reference_dir))
    with pytest.raises(NonFiniteError, match=r"step 0: the loss of rows .* is nan"):
        fit(tiny_rows_split, broken, tmp_path / "run")
