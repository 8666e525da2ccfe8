"""The average of the policy's weights: what it is, where it is measured, and that a run goes on from it."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import yaml  # type: ignore[import-untyped]
from safetensors.torch import load_file
from torch import Tensor

from remit_lit.cli.dispatch import main
from remit_lit.errors import ConfigError
from remit_lit.models.export import export
from remit_lit.runs.checkpoint import checkpoint_path
from remit_lit.runs.checkpoint_io import TRAINER
from remit_lit.runs.folder import CHECKPOINTS
from remit_lit.runs.weights import WEIGHTS
from remit_lit.training.callbacks.policy_ema import PolicyEMA
from remit_lit.training.engines import ZeRO
from tests.helpers import Run, build, fit
from tests.processes import ROOT

STEPS, DECAY = 6, 0.6


class Weights(pl.Callback):
    """The weights after each step, and those that a validation measures."""

    def __init__(self) -> None:
        self.after: list[dict[str, Tensor]] = []
        self.validated: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_step > len(self.after):
            self.after.append(_copied(pl_module))

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.validated.append(_copied(pl_module))


def _copied(module: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.policy.named_parameters()}


def slow_average(steps: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Of the weights after each step, one number after the other."""
    averages = {}
    for name in steps[0]:
        numbers = steps[0][name].flatten().tolist()
        for step in steps[1:]:
            numbers = [DECAY * a + (1 - DECAY) * w for a, w in zip(numbers, step[name].flatten().tolist(), strict=True)]
        averages[name] = torch.tensor(numbers).view_as(steps[0][name])
    return averages


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-7, msg=name)


@pytest.fixture(scope="module")
def plain(tiny_rows: Path, tiny_policy_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Weights]:
    """A run without the average."""
    weights = Weights()
    return fit(tiny_rows, tiny_policy_dir, tmp_path_factory.mktemp("plain"), steps=STEPS, callbacks=[weights]), weights


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("first_step", [0, 2])
def test_validation_and_the_end_find_the_average_and_training_does_not(
    is_first: bool,
    first_step: int,
    plain: tuple[Run, Weights],
    tiny_rows: Path,
    tiny_policy_dir: Path,
    tmp_path: Path,
) -> None:
    weights, ema = Weights(), PolicyEMA(DECAY, first_step)
    callbacks: list[pl.Callback] = [ema, weights] if is_first else [weights, ema]
    validation: dict[str, Any] = {"limit_val_batches": 1, "val_check_interval": 2, "num_sanity_val_steps": 1}
    run = fit(tiny_rows, tiny_policy_dir, tmp_path, steps=STEPS, callbacks=callbacks, trainer=validation)
    assert run.losses == plain[0].losses
    assert_near(run.parameters, slow_average(plain[1].after[first_step:]))
    for number, validated in enumerate(weights.validated[1:], start=1):  # the first is before training
        steps = plain[1].after[first_step : 2 * number] or plain[1].after[: 2 * number][-1:]
        assert_near(validated, slow_average(steps))
    assert ema.summary() == [
        f"the model is the average of the weights after {STEPS - first_step} steps, with decay {DECAY}"
    ]


@pytest.fixture(scope="module")
def command(tiny_rows: Path, tiny_policy_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A ``fit`` of 4 steps with a checkpoint every 2, without the average."""
    config = {
        "model": {
            "policy": {"path": str(tiny_policy_dir)},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
            "horizon": {"steps": 4},
        },
        "data": {"rows": str(tiny_rows), "batch_size": 2, "num_workers": 0},
        "trainer": {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "limit_val_batches": 0},
        "checkpoint": {"every_n_train_steps": 2, "keep_last": None},
    }
    path = tmp_path_factory.mktemp("command") / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return ["fit", f"--config={path}"]


OVERLAY = [f"--config={ROOT}/experiments/annealing/ema.yaml", "--trainer.callbacks.decay=0.6"]


@pytest.fixture(scope="module")
def whole(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that run with the overlay."""
    run = tmp_path_factory.mktemp("ema") / "run"
    main([*command, *OVERLAY, f"--run_dir={run}"])
    return run


def current(checkpoint: Path) -> dict[str, Tensor]:
    """The weights in training that a checkpoint has beside the average."""
    state: dict[str, Tensor] = torch.load(checkpoint / TRAINER, weights_only=True)["current_model_state"]
    return state


def test_a_run_goes_on_to_the_last_bit(command: list[str], whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / CHECKPOINTS).mkdir(parents=True)
    shutil.copy(whole / "config.yaml", run)
    shutil.copytree(checkpoint_path(whole / CHECKPOINTS, 2), checkpoint_path(run / CHECKPOINTS, 2))
    main([*command, *OVERLAY, f"--run_dir={run}", "--ckpt_path=last"])
    ours, theirs = (checkpoint_path(each / CHECKPOINTS, 4) for each in (run, whole))
    for name in ("model/model.safetensors", f"checkpoints/{ours.name}/{WEIGHTS}"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    assert all(torch.equal(value, current(theirs)[name]) for name, value in current(ours).items())


def test_the_exported_model_is_the_average(whole: Path, tmp_path: Path) -> None:
    model = load_file(whole / "model" / "model.safetensors")
    exported = load_file(export(str(whole), str(tmp_path / "model")) / "model.safetensors")
    in_training = current(checkpoint_path(whole / CHECKPOINTS, 4))
    for name, value in model.items():
        assert torch.equal(exported[name], value)
        assert not torch.equal(in_training[f"policy.{name}"], value)


def test_a_run_that_averaged_does_not_go_on_without(
    command: list[str], whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*command, f"--run_dir={tmp_path}/run", f"--ckpt_path={checkpoint_path(whole / CHECKPOINTS, 2)}"])
    assert "trainer.callbacks: the run up to this checkpoint averaged its weights" in capsys.readouterr().err


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1, float("nan")])
def test_a_decay_outside_0_and_1_is_refused(decay: float) -> None:
    with pytest.raises(ConfigError, match=r"PolicyEMA\.decay: got .*; give a number above 0 and below 1"):
        PolicyEMA(decay)


@pytest.mark.parametrize(
    ("first_step", "precision", "message"),
    [
        (-1, "32-true", r"PolicyEMA\.first_step: got -1"),
        (4, "32-true", r"PolicyEMA\.first_step: got 4; the run has 4 steps"),
        (0, "bf16-true", r"trainer\.precision=bf16-true.*give bf16-mixed"),
    ],
)
@pytest.mark.usefixtures("no_weights")
def test_a_run_that_has_nothing_to_average_is_refused_before_its_model_is_loaded(
    first_step: int, precision: str, message: str, tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(
            tiny_rows,
            tiny_policy_dir,
            tmp_path,
            callbacks=[PolicyEMA(first_step=first_step)],
            trainer={"precision": precision},
        )


def test_weights_that_zero_shards_are_refused(tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path) -> None:
    run, _ = build(tiny_rows, tiny_policy_dir, tmp_path)
    trainer: Any = SimpleNamespace(strategy=object.__new__(ZeRO), precision="32-true")
    with pytest.raises(ConfigError, match="PolicyEMA: got ZeRO"):
        PolicyEMA().setup(trainer, run.module, "fit")
