"""The costs in run.json against FLOPs counted by hand."""

import json
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest

from remit_lit.data.batch import Batch
from remit_lit.data.columns import column_directory
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import CachedReference, LiveReference
from remit_lit.reference.score import score
from remit_lit.reference.subsets import select
from remit_lit.runs.checkpoint_io import CheckpointFiles
from remit_lit.training.callbacks.checkpoints import Checkpoints
from remit_lit.training.callbacks.run_record import RunRecord
from remit_lit.training.distillation import Distillation
from remit_lit.weighting import MiniPLM, NextTokenPrediction, ReMiT, Rho1
from tests.helpers import TIME, build, fit, save_model

STEPS, ROWS_PER_STEP = 3, 2 * 2  # a batch of 2 rows, accumulated twice
TOKENS = STEPS * ROWS_PER_STEP * TIME


def flops(hidden: int, feed_forward: int, layers: int = 2, vocabulary: int = 32) -> int:
    """Forward and backward of one token of a row, for a Llama of 4 heads and 2 of keys and values, tied embeddings."""
    attention = 2 * hidden * hidden + 2 * hidden * (hidden // 2)
    layer = attention + 3 * hidden * feed_forward + 2 * hidden
    return 6 * (vocabulary * hidden + layers * layer + hidden) + 12 * layers * hidden * TIME


POLICY, REFERENCE = flops(32, 64), flops(16, 24)


@pytest.fixture
def small_reference(tmp_path: Path) -> Path:
    """A reference of another size than the policy's."""
    return save_model(tmp_path / "small", 5, hidden_size=16, intermediate_size=24)


def cost(rows: Path, policy: Path, run_dir: Path, **options: Any) -> dict[str, float]:
    fit(rows, policy, run_dir, steps=STEPS, accumulate=2, callbacks=[RunRecord()], **options)
    found: dict[str, float] = json.loads((run_dir / "run.json").read_text())["cost"]
    assert found.pop("seconds") > 0
    return found


def live(path: Path) -> LiveReference:
    return LiveReference(ModelSpec(str(path)))


def expected(
    reference_flops: float,
    scoring_flops: float | None = 0.0,
    *,
    policy: float = TOKENS * POLICY,
    once: float | None = 0.0,
    always: float = 0.0,
) -> dict[str, Any]:
    """``once`` is what the first run with cached scores takes beside the policy, ``always`` what every run does."""
    further = policy + always
    return {
        "tokens": TOKENS,
        "policy_flops": pytest.approx(policy, rel=1e-12),
        "reference_flops": pytest.approx(reference_flops, rel=1e-12),
        "scoring_flops": scoring_flops if scoring_flops is None else pytest.approx(scoring_flops, rel=1e-12),
        "first_run_flops": once if once is None else pytest.approx(further + once, rel=1e-12),
        "further_run_flops": pytest.approx(further, rel=1e-12),
    }


def num_rows(rows: Path) -> int:
    number: int = json.loads((rows / "manifest.json").read_text())["counts"]["train"]["rows"]
    return number


def test_next_token_prediction_asks_nothing_else(
    tiny_rows: Path, tiny_policy_dir: Path, small_reference: Path, tmp_path: Path
) -> None:
    settings = {"weighting": NextTokenPrediction(), "reference": live(small_reference)}
    assert cost(tiny_rows, tiny_policy_dir, tmp_path / "run", **settings) == expected(0)


def test_a_live_reference_costs_a_forward_pass(
    tiny_rows: Path, tiny_policy_dir: Path, small_reference: Path, tmp_path: Path
) -> None:
    settings = {"weighting": ReMiT(), "reference": live(small_reference)}
    # Cached, the first run scores every row, and a further one none.
    once = num_rows(tiny_rows) * TIME * REFERENCE / 3
    assert cost(tiny_rows, tiny_policy_dir, tmp_path / "run", **settings) == expected(TOKENS * REFERENCE / 3, once=once)


def test_a_base_costs_another(
    tiny_rows: Path, tiny_policy_dir: Path, small_reference: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    settings = {"weighting": ReMiT(), "reference": live(small_reference), "base": live(tiny_reference_dir)}
    found = cost(tiny_rows, tiny_policy_dir, tmp_path / "run", **settings)
    once = num_rows(tiny_rows) * TIME * (REFERENCE + POLICY) / 3
    assert found == expected(TOKENS * (REFERENCE + POLICY) / 3, once=once)


def test_a_first_pass_over_the_step_costs_a_forward_pass_of_the_policy_unless_a_base_stands_for_it(
    tiny_rows: Path, tiny_policy_dir: Path, small_reference: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"weighting": Rho1(scope="step"), "reference": live(small_reference)}
    found = cost(tiny_rows, tiny_policy_dir, tmp_path / "one", **settings)
    once = num_rows(tiny_rows) * TIME * REFERENCE / 3
    assert found == expected(TOKENS * REFERENCE / 3, policy=TOKENS * POLICY * 4 / 3, once=once)
    found = cost(tiny_rows, tiny_policy_dir, tmp_path / "two", base=live(tiny_reference_dir), **settings)
    once = num_rows(tiny_rows) * TIME * (REFERENCE + POLICY) / 3
    assert found == expected(TOKENS * (REFERENCE + POLICY) / 3, once=once)


def test_a_teacher_costs_a_forward_pass_and_one_that_weighs_two(
    tiny_rows: Path, tiny_policy_dir: Path, small_reference: Path, tmp_path: Path
) -> None:
    """No column holds a teacher's distribution, so every run pays for it."""
    settings = {"reference": live(small_reference), "distillation": Distillation()}
    forward = TOKENS * REFERENCE / 3
    found = cost(tiny_rows, tiny_policy_dir, tmp_path / "one", **settings)
    assert found == expected(forward, always=forward)
    found = cost(tiny_rows, tiny_policy_dir, tmp_path / "two", weighting=ReMiT(), **settings)
    assert found == expected(2 * forward, always=forward, once=num_rows(tiny_rows) * TIME * REFERENCE / 3)


def test_columns_of_one_model_are_of_one_pass(
    rows: Path, tiny_policy_dir: Path, small_reference: Path, tmp_path: Path
) -> None:
    score(str(rows), ModelSpec(str(small_reference)), "nll_rl", accelerator="cpu", top_k=4, top_k_column="top")
    settings = {
        "weighting": ReMiT(),
        "reference": CachedReference("nll_rl"),
        "distillation": Distillation(column="top"),
    }
    scoring = num_rows(rows) * TIME * REFERENCE / 3
    assert cost(rows, tiny_policy_dir, tmp_path / "run", **settings) == expected(0, scoring, once=scoring)


def test_rows_chosen_before_training_are_scored_by_both_models(
    tiny_rows: Path, tiny_policy_dir: Path, small_reference: Path, tmp_path: Path
) -> None:
    settings = {"weighting": MiniPLM(), "reference": live(small_reference)}
    found = cost(tiny_rows, tiny_policy_dir, tmp_path / "run", **settings)
    scoring = num_rows(tiny_rows) * TIME * (REFERENCE + POLICY) / 3
    assert found == expected(scoring, once=scoring)


def test_no_forward_pass_is_missed(
    tiny_rows: Path,
    tiny_policy_dir: Path,
    small_reference: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The tokens that references really see are those that are counted."""
    seen = []
    hidden_states = LiveReference._hidden_states

    def counting(self: LiveReference, batch: Batch) -> Any:
        seen.append(batch.input_ids.numel())
        return hidden_states(self, batch)

    monkeypatch.setattr(LiveReference, "_hidden_states", counting)
    cases: dict[str, dict[str, Any]] = {
        "remit": {"weighting": ReMiT()},
        "teacher": {"distillation": Distillation()},
        "step": {"weighting": Rho1(scope="step")},
        "both": {"weighting": ReMiT(), "distillation": Distillation()},
        "rows": {"weighting": MiniPLM(), "base": live(small_reference)},
        "rows and teacher": {"weighting": MiniPLM(), "base": live(small_reference), "distillation": Distillation()},
    }
    for name, settings in cases.items():
        seen.clear()
        found = cost(tiny_rows, tiny_policy_dir, tmp_path / name, reference=live(small_reference), **settings)
        assert found["reference_flops"] == pytest.approx(sum(seen) * REFERENCE / 3, rel=1e-12)


def test_cached_scores_cost_nothing_in_training(
    rows: Path, tiny_policy_dir: Path, small_reference: Path, tmp_path: Path
) -> None:
    score(str(rows), ModelSpec(str(small_reference)), "nll_rl", accelerator="cpu")
    settings = {"weighting": ReMiT(), "reference": CachedReference("nll_rl")}
    scoring = num_rows(rows) * TIME * REFERENCE / 3
    assert cost(rows, tiny_policy_dir, tmp_path / "run", **settings) == expected(0, scoring, once=scoring)


def test_a_column_that_does_not_say_its_cost_leaves_it_open(
    rows: Path, tiny_policy_dir: Path, small_reference: Path, tmp_path: Path
) -> None:
    score(str(rows), ModelSpec(str(small_reference)), "nll_rl", accelerator="cpu")
    path = column_directory(rows, "train", "nll_rl") / "column.json"
    facts = json.loads(path.read_text())
    del facts["forward_flops"]
    path.write_text(json.dumps(facts))
    settings = {"weighting": ReMiT(), "reference": CachedReference("nll_rl")}
    assert cost(rows, tiny_policy_dir, tmp_path / "run", **settings) == expected(0, None, once=None)
    score(str(rows), ModelSpec(str(small_reference)), "nll_rl", accelerator="cpu")  # takes it for the same column


def test_a_subset_costs_the_columns_that_it_was_chosen_by(
    rows: Path, tiny_policy_dir: Path, small_reference: Path, tmp_path: Path
) -> None:
    score(str(rows), ModelSpec(str(tiny_policy_dir)), "nll_base", accelerator="cpu")
    score(str(rows), ModelSpec(str(small_reference)), "nll_rl", accelerator="cpu")
    select(str(rows), "nll_base", "nll_rl", "half")
    run, data = build(rows, tiny_policy_dir, tmp_path / "run", steps=STEPS, accumulate=2, callbacks=[RunRecord()])
    data.subset = "half"
    run.trainer.fit(run.module, datamodule=data)
    found = json.loads((tmp_path / "run" / "run.json").read_text())["cost"]
    del found["seconds"]
    scoring = num_rows(rows) * TIME * (POLICY + REFERENCE) / 3
    assert found == expected(0, scoring, once=scoring)


class Slow(pl.Callback):
    """Half a second at the start of each step."""

    def on_train_batch_start(self, *_: Any) -> None:
        time.sleep(0.5)


def test_seconds_and_tokens_are_those_of_all_parts_of_a_run(
    tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path
) -> None:
    seconds: list[float] = []
    started = time.perf_counter()
    for until in (2, 4):
        callbacks = [RunRecord(), Slow(), Checkpoints(every_n_train_steps=2)]
        settings: dict[str, Any] = {"max_steps": until, "plugins": [CheckpointFiles()], "enable_checkpointing": True}
        run, data = build(tiny_rows, tiny_policy_dir, tmp_path, steps=4, callbacks=callbacks, trainer=settings)
        checkpoint = str(tmp_path / "checkpoints" / "last.ckpt") if seconds else None
        run.trainer.fit(run.module, datamodule=data, ckpt_path=checkpoint)
        found = json.loads((tmp_path / "run.json").read_text())["cost"]
        assert found["tokens"] == until * 2 * TIME
        seconds.append(found["seconds"])
    assert seconds[0] >= 1.0 and 2.0 <= seconds[1] < time.perf_counter() - started
