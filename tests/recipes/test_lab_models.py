import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from remit_lit.lab.evaluation import lab_accuracy
from remit_lit.lab.task import correct_completion, sample_problems
from remit_lit.lab.tokenizer import build_tokenizer, check_lab_tokenizer
from remit_lit.models.locations import asset_path
from remit_lit.posttraining.rewards import lab_answer
from remit_lit.recipes.lab_budgets import PretrainingStage, Recipe, RLVRStage, SFTStage
from remit_lit.recipes.lab_models import PROVENANCE, STAGES, build, reinforce

MINIATURE = Recipe(
    base=PretrainingStage(30, task_share=0.4, final=1.0, learning_rate=5e-3, warmup_steps=1, reach=9.0),
    mid=PretrainingStage(3, task_share=0.4, final=0.02, learning_rate=3e-3, warmup_steps=1),
    sft=SFTStage(problems=128, warmup_steps=1),
    rlvr=RLVRStage(steps=2, prompts=4, samples=4, warmup_steps=1),
    dev_problems=10,
    test_problems=10,
)
NAMES = ("base", "sft", "reference")


def test_miniature_pipeline(tmp_path):
    pytest.importorskip("trl")
    record = build(str(tmp_path), seed=3, recipe=MINIATURE)
    assert json.loads((tmp_path / PROVENANCE).read_text()) == record
    assert record["seed"] == 3 and tuple(record["stages"]) == STAGES
    weights = [load_file(tmp_path / name / "model.safetensors")["model.embed_tokens.weight"] for name in STAGES]
    for before, after in pairwise(weights[:3]):
        assert not torch.equal(before, after)
    for name in STAGES:
        AutoModelForCausalLM.from_pretrained(tmp_path / name)
        check_lab_tokenizer(AutoTokenizer.from_pretrained(tmp_path / name))
    with pytest.raises(ValueError, match="exists"):
        build(str(tmp_path), seed=3, recipe=MINIATURE)


def test_reinforcement_learns_from_the_reward(tmp_path):
    pytest.importorskip("trl")
    model = AutoModelForCausalLM.from_pretrained(asset_path("sft"))
    before = model.lm_head.weight.detach().clone()
    reinforce(model, build_tokenizer(), replace(MINIATURE.rlvr, prompts=16, samples=8), tmp_path, seed=0)
    assert not torch.equal(before, model.lm_head.weight)


def test_a_stage_shares_out_its_documents():
    stage = PretrainingStage(steps=200, task_share=0.4, final=0.0, learning_rate=1e-3)
    assert stage.documents() == {"web": 3072, "noise": 768, "correct": 1280, "wrong": 1280}
    assert sum(replace(stage, steps=7).documents().values()) == 7 * 32


def test_reward_is_the_verifier():
    problems = sample_problems(3, "train")
    completions = [
        correct_completion(problems[0]),
        correct_completion(problems[1])[:-1] + "a",
        "#" + str(problems[2].answer),
    ]
    assert lab_answer([problem.prompt for problem in problems], completions) == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("name", NAMES)
def test_embedded_models_are_small_and_as_good_as_recorded(name):
    stages = json.loads((asset_path(name).parent / PROVENANCE).read_text())["stages"]
    assert (asset_path(name) / "model.safetensors").stat().st_size < 2_000_000
    model = AutoModelForCausalLM.from_pretrained(asset_path(name))
    tokenizer = AutoTokenizer.from_pretrained(asset_path(name))
    found = lab_accuracy(model, tokenizer, sample_problems(500, "dev"))
    assert abs(found.accuracy - stages[name]["dev_accuracy"]) < 0.06


def test_embedded_pipeline_keeps_its_promises():
    record = json.loads((asset_path("base").parent / PROVENANCE).read_text())
    accuracy = {name: stage["test_accuracy"] for name, stage in record["stages"].items()}
    assert record["seed"] == 0
    assert accuracy["base"] < 0.2 <= accuracy["mid"] <= 0.8
    assert accuracy["reference"] >= accuracy["mid"] + 0.1


@pytest.mark.slow
def test_embedded_models_are_rebuilt_from_nothing(tmp_path):
    pytest.importorskip("trl")
    record = build(str(tmp_path), seed=0)
    assert sum(stage["cpu_seconds"] for stage in record["stages"].values()) < 240
    accuracy = {name: stage["dev_accuracy"] for name, stage in record["stages"].items()}
    assert 0.2 <= accuracy["mid"] <= 0.8
    assert accuracy["reference"] >= accuracy["mid"] + 0.1
