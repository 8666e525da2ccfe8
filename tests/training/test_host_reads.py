"""Between two logs of a run the host reads nothing from the device, and a step that broke still changes no weights."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from remit_lit.errors import NonFiniteError
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import CachedReference, InitialPolicy, LiveReference, Reference
from remit_lit.reference.score import score
from remit_lit.training.callbacks.throughput import Throughput
from remit_lit.training.callbacks.token_weights import TokenWeights
from remit_lit.training.callbacks.weight_statistics import WeightStatistics
from remit_lit.training.distillation import Distillation
from remit_lit.training.module import MidTrainingModule
from remit_lit.weighting import ESLM, ReMiT, Rho1
from tests.helpers import build
from tests.host_reads import HostReads, Read

LOGGED, STEPS, ACCUMULATE = 4, 8, 2
FUSED = partial(torch.optim.AdamW, lr=1e-3, fused=True)
CASES: dict[str, dict[str, Any]] = {
    "ntp": {},
    "remit-live": {"weighting": ReMiT(), "reference": "live"},
    "remit-cached": {"weighting": ReMiT(), "reference": "cached"},
    "remit-segment": {"weighting": ReMiT(center="segment"), "reference": "cached", "base": InitialPolicy()},
    "rho1-row": {"weighting": Rho1(scope="row"), "reference": "cached"},
    "rho1-batch": {"weighting": Rho1(), "reference": "cached"},
    "rho1-step": {"weighting": Rho1(scope="step"), "reference": "live"},
    "eslm-step": {"weighting": ESLM(scope="step", risk="entropy"), "z_loss": 1e-5},
    "tensorboard": {"weighting": ReMiT(), "reference": "cached", "board": True},
    "distillation": {"distillation": Distillation(), "reference": "live"},
    "switch": {"distillation": Distillation(divergence="reverse_kl", switch=0.2), "reference": "live"},
    "bfloat16": {
        "trainer": {"precision": "bf16-mixed", "enable_progress_bar": True},
        "activation_checkpointing": True,
    },
}


class Bounds(pl.Callback):
    """How many reads there were when each micro-batch began."""

    def __init__(self, reads: HostReads) -> None:
        self.reads, self.before = reads, list[int]()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.before.append(len(self.reads.found))


@pytest.fixture(scope="module")
def scored(tiny_rows_split: Path, tiny_reference_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows with the reference's NLLs as a column."""
    own = tmp_path_factory.mktemp("scored") / "rows"
    score(str(tiny_rows_split), ModelSpec(str(tiny_reference_dir)), "nll_rl", output=str(own))
    return own


def between_logs(rows: Path, policy: Path, frozen: Path, run_dir: Path, **options: Any) -> list[Read]:
    """The reads of the steps after one that was logged, up to the next."""
    references: dict[Any, Reference | None] = {
        "live": LiveReference(ModelSpec(str(frozen))),
        "cached": CachedReference("nll_rl"),
        None: None,
    }
    options["reference"] = references[options.get("reference")]
    options["trainer"] = {"log_every_n_steps": LOGGED, "gradient_clip_val": 1.0, **options.get("trainer", {})}
    reads = HostReads()
    bounds = Bounds(reads)
    callbacks = [bounds, WeightStatistics(), TokenWeights(), Throughput(1e12)]
    if options.pop("board", False):
        options["trainer"]["logger"] = TensorBoardLogger(run_dir)
    settings: dict[str, Any] = {"optimizer": FUSED, "steps": STEPS, "accumulate": ACCUMULATE, "callbacks": callbacks}
    run, data = build(rows, policy, run_dir, **(settings | options))
    run.trainer.callbacks.remove(run.recorder)  # type: ignore[attr-defined]
    with reads.counting():
        run.trainer.fit(run.module, datamodule=data)
    assert any("_local_scalar_dense" in read.what for read in reads.found), "logs are read"
    return reads.found[bounds.before[LOGGED * ACCUMULATE] : bounds.before[(STEPS - 1) * ACCUMULATE]]


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_read_between_two_logs(scored, tiny_policy_dir, tiny_reference_dir, tmp_path, name):
    found = between_logs(scored, tiny_policy_dir, tiny_reference_dir, tmp_path, **CASES[name])
    assert not found, "\n".join(sorted(set(map(str, found))))


def test_an_optimizer_that_leaves_no_step_out_is_read_for_once_a_step(
    scored, tiny_policy_dir, tiny_reference_dir, tmp_path
):
    settings = {"optimizer": torch.optim.AdamW, "weighting": ReMiT(), "reference": "cached"}
    found = between_logs(scored, tiny_policy_dir, tiny_reference_dir, tmp_path, **settings)
    assert len(found) == STEPS - 1 - LOGGED, "\n".join(map(str, found))


def test_the_counter_sees_every_kind_of_read():
    reads = HostReads()
    with reads.counting():
        here = torch.ones(3, dtype=torch.bool)
        there = here.clone().to(torch.device("cpu"))
        for use in (Tensor.tolist, Tensor.any, lambda t: bool(t.any()), Tensor.nonzero, lambda t: t[t], Tensor.cpu):
            use(here)
            use(there)
        torch.tensor(1.0, device=torch.device("cpu"))
    assert [read.what.split(".")[-2] if "aten" in read.what else read.what for read in reads.found] == [
        "tolist",
        "_local_scalar_dense",
        "nonzero",
        "index",
        "cpu",
        "upload of unpinned memory",
    ]


class Breaks(pl.Callback):
    """Makes a gradient infinite in one step, and keeps weights and moments from before it and from the end."""

    def __init__(self, step: int) -> None:
        self.step, self.before, self.after = step, {}, {}  # type: ignore[var-annotated]

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step == self.step:
            self.before = state(trainer, pl_module)
            next(pl_module.parameters()).grad[0] = torch.inf  # type: ignore[index]

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.after, self.stopped_at = state(trainer, pl_module), trainer.global_step


def state(trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Tensor]:
    """Weights, moments and counts of steps."""
    assert isinstance(module, MidTrainingModule)
    found = dict(module.named_parameters())
    for number, values in trainer.optimizers[0].state_dict()["state"].items():
        found |= {f"{number}.{name}": value for name, value in values.items()}
    return {name: value.detach().clone() for name, value in found.items()}


@pytest.mark.parametrize("optimizer", [FUSED, partial(torch.optim.SGD, lr=0.1, momentum=0.9, fused=True)])
def test_a_broken_step_and_those_after_it_change_nothing(tiny_rows_split, tiny_policy_dir, tmp_path, optimizer):
    breaks = Breaks(5)
    options: dict[str, Any] = {"optimizer": optimizer, "steps": 8, "trainer": {"log_every_n_steps": 4}}
    run, data = build(tiny_rows_split, tiny_policy_dir, tmp_path, callbacks=[breaks], **options)
    run.trainer.callbacks.remove(run.recorder)  # type: ignore[attr-defined]
    with pytest.raises(NonFiniteError, match=r"step 5: the gradient norm of rows \[\d+, \d+\] is inf"):
        run.trainer.fit(run.module, datamodule=data)
    assert breaks.stopped_at == 7 and breaks.before.keys() == breaks.after.keys()
    assert all(torch.equal(breaks.after[name], value) for name, value in breaks.before.items())


def test_the_flag_changes_no_step_of_a_healthy_run(tiny_rows_split, tiny_policy_dir, tmp_path, monkeypatch):
    runs = []
    for leaves_out in (True, False):
        monkeypatch.setattr("remit_lit.training.steps.leaves_steps_out", lambda _, known=leaves_out: known)
        run, data = build(tiny_rows_split, tiny_policy_dir, tmp_path, optimizer=copy.copy(FUSED))
        run.trainer.fit(run.module, datamodule=data)
        runs.append(run.parameters)
    assert all(torch.equal(runs[0][name], value) for name, value in runs[1].items())
