"""A strategy that chooses rows sees as many different ones as training on all rows would, or the run is refused."""

import numpy as np
import pytest
import torch

from remit_lit.data.manifest import read_manifest
from remit_lit.data.mixing import Stage
from remit_lit.errors import ConfigError
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import LiveReference
from remit_lit.reference.score import score
from remit_lit.reference.subsets import select
from remit_lit.weighting import MiniPLM, NextTokenPrediction, RowScores
from tests.helpers import build, fit, make_rows


@pytest.fixture
def settings(tiny_reference_dir):
    return {"weighting": MiniPLM(0.5), "reference": LiveReference(ModelSpec(str(tiny_reference_dir))), "batch_size": 2}


def test_a_choice_that_would_be_repeated_is_refused_before_models_load(
    rows, tiny_policy_dir, tmp_path, settings, no_weights
):
    count = read_manifest(rows).counts["train"]["rows"]
    steps = count // 2  # next-token prediction would see each row once
    with pytest.raises(ConfigError) as refused:
        fit(rows, tiny_policy_dir, tmp_path, steps=steps, **settings)
    kept, candidates, tokens = (count + 1) // 2, 2 * steps * 2, 2 * steps * 2 * 132
    for said in (f"MiniPLM keeps {kept} of {count} rows", f"{candidates} rows ({tokens:,} tokens", "data.prepare"):
        assert said in str(refused.value)
    assert "data.repeat_chosen: true" in str(refused.value)


def test_a_choice_of_enough_rows_trains_on_each_once(rows, tiny_policy_dir, tmp_path, settings):
    count = read_manifest(rows).counts["train"]["rows"]
    run = fit(rows, tiny_policy_dir, tmp_path, steps=count // 4, **settings)
    trained = [row for step in run.recorder.rows for row in step]
    assert len(trained) == len(set(trained)) == count // 4 * 2


def test_repeating_may_be_asked_for(rows, tiny_policy_dir, tmp_path, settings):
    count = read_manifest(rows).counts["train"]["rows"]
    run = fit(rows, tiny_policy_dir, tmp_path, steps=count // 2, repeat_chosen=True, **settings)
    trained = [row for step in run.recorder.rows for row in step]
    assert len(set(trained)) == (count + 1) // 2


def test_where_all_rows_would_be_repeated_nothing_is_asked(rows, tiny_policy_dir, tmp_path):
    count = read_manifest(rows).counts["train"]["rows"]
    run = fit(rows, tiny_policy_dir, tmp_path, steps=count, weighting=NextTokenPrediction())
    assert len(run.losses) == count


def test_a_subset_too_small_is_refused_for_any_strategy(rows, tiny_policy_dir, tiny_reference_dir, tmp_path):
    for column, model in (("nll_base", tiny_policy_dir), ("nll_rl", tiny_reference_dir)):
        score(str(rows), ModelSpec(str(model)), column)
    select(str(rows), "nll_base", "nll_rl", "tenth", weighting=MiniPLM(0.1))
    run, data = build(rows, tiny_policy_dir, tmp_path, steps=10, weighting=NextTokenPrediction())
    data.subset = "tenth"
    with pytest.raises(ConfigError, match=r"data\.subset: 'tenth' keeps \d+ of \d+ rows.*repeat_chosen"):
        run.trainer.fit(run.module, datamodule=data)


@pytest.mark.parametrize("keep", [0.01, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("rows_in_all", [1, 7, 100])
def test_a_strategy_says_beforehand_how_many_rows_it_keeps(keep, rows_in_all):
    scores = RowScores(torch.randn(rows_in_all), torch.randn(rows_in_all))
    assert MiniPLM(keep).rows_kept(rows_in_all) == len(MiniPLM(keep).select_rows(scores))


@pytest.fixture
def staged(tiny_tokenizer_dir, tmp_path):
    stages = [Stage(20 * 132, {"web": 1.0}), Stage(10 * 132, {"web": 0.5, "correct": 0.5})]
    return make_rows(tmp_path / "staged", tiny_tokenizer_dir, 132, stages=stages, validation_share=0.0)


def test_stages_are_trained_on_one_after_the_other(staged, tiny_policy_dir, tmp_path):
    run = fit(staged, tiny_policy_dir, tmp_path / "run", steps=15, weighting=NextTokenPrediction())
    trained = [row for step in run.recorder.rows for row in step]
    assert sorted(trained[:20]) == list(range(20)) != trained[:20]
    assert sorted(trained[20:]) == list(range(20, 30)) != trained[20:]


def test_of_rows_that_were_chosen_too(staged, tiny_policy_dir, tmp_path):
    _, data = build(staged, tiny_policy_dir, tmp_path / "run")
    rows = data.load_rows("train", [])
    rows.selection = np.array([3, 7, 19, 20, 29])
    assert data.stages_of(rows) == (3, 2)


def test_they_are_not_begun_again(staged, tiny_policy_dir, tmp_path, no_weights):
    with pytest.raises(ConfigError, match=r"model\.horizon: a run of 32 rows .* of 30 rows in 2 stages"):
        fit(staged, tiny_policy_dir, tmp_path / "run", steps=16, weighting=NextTokenPrediction())
