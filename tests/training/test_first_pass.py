"""Strategies that weigh an optimizer step as a whole: how the step is split changes nothing."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from transformers import AutoModelForCausalLM

from remit_lit.errors import ConfigError
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import CachedReference, InitialPolicy, LiveReference, Reference
from remit_lit.reference.score import score
from remit_lit.training.callbacks.run_summary import RunSummary
from remit_lit.training.engines import global_weights
from remit_lit.training.module import MidTrainingModule
from remit_lit.training.optimization import Horizon
from remit_lit.weighting import NextTokenPrediction, Rho1, TokenSignals
from tests.helpers import Run, build, fit, get_batch, save_model
from tests.training.plain import assert_same, live, nll_of
from tests.weighting import slow

ROWS_OF_A_STEP = 16
SPLITS = [(16, 1), (4, 4), (1, 16)]  # batch_size, accumulate


class Choices(pl.Callback):
    """The weights of every row that was trained on, by optimizer step."""

    def __init__(self) -> None:
        self.steps: list[dict[int, list[float]]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.steps.append({})
        self.steps[-1].update(zip(batch.rows.tolist(), pl_module.last_loss.weights.tolist(), strict=True))


def choices(rows: Path, policy: Path, run_dir: Path, split: tuple[int, int], **options: Any) -> tuple[Run, Choices]:
    seen, (batch_size, accumulate) = Choices(), split
    settings = {"weighting": Rho1(0.3, "step"), "callbacks": [seen], "steps": 3, **options}
    return fit(rows, policy, run_dir, batch_size=batch_size, accumulate=accumulate, **settings), seen


def by_the_formula(rows: Path, policy: Path, reference: Path, numbers: list[int], keep: float) -> slow.Rows:
    """RHO-1's choice among all tokens of these rows, from whole logits and by loops."""
    batch = get_batch(rows, numbers)
    with torch.no_grad():
        nll, other = (nll_of(AutoModelForCausalLM.from_pretrained(path), batch) for path in (policy, reference))
    signals = TokenSignals(nll, batch.mask, other, batch.segment_ids, batch.targets <= 1)
    return slow.rho1(signals, keep=keep)


@pytest.mark.parametrize("cached", [False, True], ids=["live", "cached"])
def test_a_step_split_in_any_way_chooses_the_tokens_of_the_formula(
    rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path, cached: bool
) -> None:
    reference: Reference = live(tiny_reference_dir)
    if cached:
        score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll_rl", dtype="float32")
        reference = CachedReference("nll_rl")
    runs = [choices(rows, tiny_policy_dir, tmp_path / str(split), split, reference=reference) for split in SPLITS]
    whole, seen = runs[0]
    for run, other in runs[1:]:
        assert [sorted(numbers) for numbers in run.recorder.rows] == [sorted(n) for n in whole.recorder.rows]
        assert other.steps == seen.steps
        assert run.losses == pytest.approx(whole.losses, rel=1e-6)
        assert_same(run.parameters, whole.parameters)
    numbers = whole.recorder.rows[0]
    expected = by_the_formula(rows, tiny_policy_dir, tiny_reference_dir, numbers, 0.3)
    assert [seen.steps[0][number] for number in numbers] == expected
    kept = [sum(row) for row in expected]
    assert max(kept) > 1.2 * min(kept)  # a choice by micro-batches of one row could not be the same


def test_ties_go_to_the_earlier_row_however_the_step_is_split(
    tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path
) -> None:
    """Where policy and reference agree, every excess loss is 0."""
    found = []
    for split in SPLITS:
        run, seen = choices(tiny_rows, tiny_policy_dir, tmp_path, split, reference=live(tiny_policy_dir), steps=1)
        found.append([seen.steps[0][number] for number in run.recorder.rows[0]])
    kept = [sum(row) for row in found[0]]
    assert found[1:] == found[:1] * 2 and kept == sorted(kept, reverse=True) and kept[0] > kept[-1]


def test_dropout_neither_moves_the_choice_nor_is_moved_by_it(
    tiny_rows: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    policy = save_model(tmp_path / "policy", 1, attention_dropout=0.3)
    runs = [
        choices(tiny_rows, policy, tmp_path / str(split), split, reference=live(tiny_reference_dir), steps=1)
        for split in SPLITS
    ]
    assert runs[0][1].steps == runs[1][1].steps == runs[2][1].steps
    numbers = runs[0][0].recorder.rows[0]
    expected = by_the_formula(tiny_rows, policy, tiny_reference_dir, numbers, 0.3)
    assert [runs[0][1].steps[0][number] for number in numbers] == expected
    # With everything kept, the gradients are those of next-token prediction under the same dropout.
    trained = []
    for weighting in (Rho1(1.0, "step"), NextTokenPrediction()):
        torch.manual_seed(3)
        trained.append(fit(tiny_rows, policy, tmp_path, weighting=weighting, reference=live(tiny_reference_dir)))
    assert trained[0].losses == pytest.approx(trained[1].losses, rel=1e-6)


def test_a_frozen_base_is_compared_without_a_pass_of_the_policy(
    tiny_rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"reference": live(tiny_reference_dir), "base": InitialPolicy(), "learning_rate": 1.0}
    run, seen = choices(tiny_rows, tiny_policy_dir, tmp_path, (4, 4), **settings)
    numbers = run.recorder.rows[2]
    expected = by_the_formula(tiny_rows, tiny_policy_dir, tiny_reference_dir, numbers, 0.3)
    assert [seen.steps[2][number] for number in numbers] == expected


def test_a_run_that_goes_on_from_a_checkpoint_is_the_same_to_the_last_bit(
    tiny_rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    checkpoint = pl.callbacks.ModelCheckpoint(tmp_path / "kept", every_n_train_steps=2, save_top_k=-1)
    options: dict[str, Any] = {"reference": live(tiny_reference_dir), "steps": 4, "learning_rate": 0.5}
    whole, seen = Choices(), Choices()
    settings = {"weighting": Rho1(0.3, "step"), "batch_size": 2, "accumulate": 3, **options}
    first = fit(tiny_rows, tiny_policy_dir, tmp_path, callbacks=[whole, checkpoint], **settings)
    second, data = build(tiny_rows, tiny_policy_dir, tmp_path, callbacks=[seen], **settings)
    (path,) = (tmp_path / "kept").glob("*step=2.ckpt")
    second.trainer.fit(second.module, datamodule=data, ckpt_path=str(path), weights_only=False)
    assert seen.steps == whole.steps[2:]
    assert_same(second.parameters, first.parameters, atol=0)
    assert second.losses == first.losses[2:]


def test_what_the_first_pass_takes_is_told_at_the_end(
    tiny_rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path, capsys: Any
) -> None:
    for weighting, told in ((Rho1(scope="step"), True), (Rho1(), False)):
        summary = RunSummary()
        settings: dict[str, Any] = {"reference": live(tiny_reference_dir), "weighting": weighting}
        run = fit(tiny_rows, tiny_policy_dir, tmp_path, callbacks=[summary], **settings)
        summary.print(run.trainer, run.module)
        assert ("first pass over each step" in capsys.readouterr().out) is told
    assert run.module.first_pass is None


def test_a_step_cannot_be_weighed_beforehand_with_gradients(tiny_policy_dir: Path, tiny_reference_dir: Path) -> None:
    class Attached(Rho1):
        detach = False

    spec = ModelSpec(str(tiny_policy_dir))
    with pytest.raises(ConfigError, match=r"model\.weighting: Attached .*scope.*'step'.*detach"):
        MidTrainingModule(
            spec,
            torch.optim.SGD,
            Horizon(steps=1),
            weighting=Attached(scope="step"),
            reference=LiveReference(ModelSpec(str(tiny_reference_dir))),
        )


def test_a_micro_batch_is_a_step_of_its_own_where_no_other_is_known() -> None:
    signals = slow.random_signals(0)
    assert Rho1(scope="step").weights(signals).tolist() == slow.rho1(signals)


class TwoRanks(DDPStrategy):
    """One of two ranks whose other's rows are known: gathering needs no communication."""

    global_rank, world_size = 1, 2  # type: ignore[assignment]

    def __init__(self, everywhere: TokenSignals, mine: list[int], others: list[int]) -> None:
        super().__init__()
        self.values, self.rows = list(everywhere.tensors.values()), (others, mine)

    def all_gather(self, tensor: Any, group: Any = None, sync_grads: bool = False) -> Any:
        (value,) = (v for v in self.values if torch.equal(v[self.rows[1]].to(tensor.dtype), tensor))
        return torch.stack([value[rows].to(tensor.dtype) for rows in self.rows])


def test_ranks_rank_their_tokens_as_one_in_the_order_of_the_data() -> None:
    step = slow.random_signals(3, rows=12, ties=True)
    # Three micro-batches of two rows on each of two ranks.
    others, mine = [0, 1, 4, 5, 8, 9], [2, 3, 6, 7, 10, 11]
    signals = step.each(lambda value: value[mine])
    found = global_weights(TwoRanks(step, mine, others), Rho1(0.3, "step"), signals, micro_batches=3)
    assert found.tolist() == [slow.rho1(step, keep=0.3)[row] for row in mine]
