"""A run that begins with the optimizer states of another's checkpoint."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import yaml  # type: ignore[import-untyped]
from torch import Tensor

from remit_lit.cli.dispatch import main
from remit_lit.errors import ConfigError
from remit_lit.models.spec import ModelSpec
from remit_lit.runs.checkpoint_io import TRAINER, CheckpointFiles
from remit_lit.runs.weights import WEIGHTS
from remit_lit.training.callbacks.checkpoints import Checkpoints
from remit_lit.training.callbacks.export_model import ExportModel
from remit_lit.training.callbacks.run_record import RunRecord
from remit_lit.training.optimization import Linear
from tests.helpers import Run, build, fit, save_model
from tests.processes import short_run

STEPS, BETA_1, BETA_2, EPSILON = 3, 0.8, 0.9, 1e-6
ADAM = partial(torch.optim.AdamW, betas=(BETA_1, BETA_2), eps=EPSILON)
FILES: dict[str, Any] = {"plugins": [CheckpointFiles()], "enable_checkpointing": True}


class Moments(pl.Callback):
    """AdamW's states by the names of the parameters, and these, as they are when training starts and ends."""

    def __init__(self) -> None:
        self.at: list[dict[str, dict[str, Tensor]]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        states = trainer.optimizers[0].state
        self.at.append(
            {
                name: {key: value.clone() for key, value in {**states[parameter], "value": parameter.detach()}.items()}
                for name, parameter in pl_module.named_parameters()
            }
        )

    on_train_end = on_train_start


@pytest.fixture(scope="module")
def stable(tmp_path_factory: pytest.TempPathFactory, tiny_rows: Path, tiny_policy_dir: Path) -> tuple[Path, Moments]:
    """A run whose learning rate did not fall; its folder, and its moments."""
    folder, moments = tmp_path_factory.mktemp("stable"), Moments()
    callbacks = [RunRecord(), ExportModel(), Checkpoints(every_n_train_steps=2), moments]
    options = {"optimizer": partial(ADAM, lr=0.01, weight_decay=0.3), "no_decay": ["vectors"]}
    fit(tiny_rows, tiny_policy_dir, folder, steps=STEPS, callbacks=callbacks, trainer=FILES, **options)
    return folder, moments


def anneal(rows: Path, stable: Path, run_dir: Path, callbacks: Any = (), **options: Any) -> Run:
    settings = {
        "optimizer": partial(ADAM, lr=0.002, weight_decay=0.1),
        "no_decay": ["vectors"],
        "schedule": Linear(),
        "optimizer_states": str(stable / "checkpoints" / "last.ckpt"),
    }
    return fit(rows, stable / "model", run_dir, callbacks=callbacks, **{**settings, **options})


def test_an_anneal_begins_with_the_moments_and_with_a_schedule_of_its_own(tiny_rows, stable, tmp_path):
    folder, moments = stable
    run = anneal(tiny_rows, folder, tmp_path, [began := Moments()], steps=4)
    before, start = moments.at[1], began.at[0]
    assert start.keys() == before.keys()
    for name, states in start.items():
        assert states.keys() == {"step", "exp_avg", "exp_avg_sq", "value"} and states["step"] == STEPS
        assert all(torch.equal(states[key], before[name][key]) for key in states)
    assert any(states["exp_avg"].abs().max() > 0 for states in start.values())
    assert run.logged("train/learning_rate") == pytest.approx([0.002, 0.0015, 0.001, 0.0005])
    assert run.trainer.global_step == 4


def test_its_first_step_is_adams_with_these_moments_and_its_own_rate(tiny_rows, stable, tmp_path):
    folder, rate, decay = stable[0], 0.002, 0.1
    anneal(tiny_rows, folder, tmp_path, [moments := Moments()], steps=1)
    start, end = moments.at
    for name, then in end.items():
        gradient = (then["exp_avg"] - BETA_1 * start[name]["exp_avg"]) / (1 - BETA_1)
        second = BETA_2 * start[name]["exp_avg_sq"] + (1 - BETA_2) * gradient**2
        torch.testing.assert_close(then["exp_avg_sq"], second, rtol=1e-3, atol=1e-7)
        count = STEPS + 1
        mean, scale = then["exp_avg"] / (1 - BETA_1**count), then["exp_avg_sq"] / (1 - BETA_2**count)
        kept = 1 - rate * decay * (start[name]["value"].dim() > 1)
        expected = kept * start[name]["value"] - rate * mean / (scale.sqrt() + EPSILON)
        torch.testing.assert_close(then["value"], expected, rtol=1e-5, atol=1e-7)


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading the policy fails the test; its shapes may be looked at."""

    def refuse(*_: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(ModelSpec, "load", refuse)


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9)}, "another optimizer.*exp_avg.*momentum_buffer"),
        ({"optimizer": partial(torch.optim.AdamW, lr=0.1, amsgrad=True)}, "another optimizer.*max_exp_avg_sq"),
        ({"no_decay": ["embeddings"]}, r"groups have \[15, 5\] parameters.*give model\.no_decay as it was there"),
        ({"optimizer_states": "nowhere"}, "nowhere does not exist; give a checkpoint"),
    ],
    ids=["SGD", "AMSGrad", "groups", "nowhere"],
)
def test_states_that_do_not_belong_are_refused_before_any_weights_are_loaded(
    tiny_rows, stable, tmp_path, options, message
):
    with pytest.raises(ConfigError, match=rf"^model\.optimizer_states: .*{message}"):
        anneal(tiny_rows, stable[0], tmp_path, **options)


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("changes", [{"num_hidden_layers": 1}, {"intermediate_size": 48}], ids=["layers", "width"])
def test_states_of_another_architecture_are_refused(tiny_rows, stable, tmp_path, changes):
    other = save_model(tmp_path / "other", 1, **changes)
    states = str(stable[0] / "checkpoints" / "last.ckpt")
    with pytest.raises(ConfigError, match=r"^model\.optimizer_states: .* another architecture than model\.policy \("):
        fit(tiny_rows, other, tmp_path, optimizer=partial(ADAM, lr=0.1), no_decay=["vectors"], optimizer_states=states)


def test_states_of_other_weights_are_refused(tiny_rows, stable, tmp_path):
    earlier = stable[0] / "checkpoints" / "step-00000002"
    with pytest.raises(ConfigError, match=r"^model\.optimizer_states: .*step-00000002 has other weights than model"):
        anneal(tiny_rows, stable[0], tmp_path, optimizer_states=str(earlier))


def test_an_optimizer_that_keeps_nothing_has_no_states(tiny_rows, tiny_policy_dir, tmp_path):
    fit(tiny_rows, tiny_policy_dir, tmp_path, steps=1, callbacks=[Checkpoints()], trainer=FILES)
    states = str(tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(ConfigError, match=r"^model\.optimizer_states: .*has no optimizer states: its optimizer kept"):
        fit(tiny_rows, tiny_policy_dir, tmp_path / "next", optimizer_states=states)


def test_a_run_that_goes_on_has_its_own_states_and_needs_the_others_no_more(tiny_rows, stable, tmp_path, monkeypatch):
    source = Path(shutil.copytree(stable[0] / "checkpoints" / "step-00000003", tmp_path / "source"))
    config = short_run(tiny_rows, stable[0] / "model", 4)
    config["model"]["optimizer"] = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.002}}
    config["model"]["no_decay"] = ["vectors"]
    config["model"]["optimizer_states"] = str(source)
    config["checkpoint"] = {"every_n_train_steps": 2}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    whole, cut = ["fit", "--config=config.yaml", "--run_dir=whole"], ["fit", "--config=config.yaml", "--run_dir=cut"]
    main(whole)
    main([*cut, "--trainer.max_steps=2"])
    shutil.rmtree(source)
    main([*cut, "--trainer.max_steps=4", "--ckpt_path=last", "--allow_change=trainer.max_steps"])
    weights = [Path(run, "checkpoints", "last.ckpt", WEIGHTS).read_bytes() for run in ("whole", "cut")]
    assert weights[0] == weights[1]
    steps = torch.load(tmp_path / "cut" / "checkpoints" / "last.ckpt" / TRAINER, weights_only=True)["optimizer_states"]
    assert steps[0]["state"][0]["step"] == STEPS + 4
    with pytest.raises(SystemExit):
        main([*cut, "--overwrite=true"])


def test_without_it_a_run_begins_with_none(tiny_rows, stable, tmp_path):
    run, data = build(
        tiny_rows, stable[0] / "model", tmp_path, optimizer=partial(ADAM, lr=0.01), callbacks=[began := Moments()]
    )
    run.trainer.fit(run.module, datamodule=data)
    assert all(states.keys() == {"value"} for states in began.at[0].values())
