"""Schedules by their formulas, and which parameters decay."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from remit_lit.errors import ConfigError
from remit_lit.training.optimization import Cosine, Horizon, Linear, WSDDecay, parameter_groups
from tests.helpers import Run, fit, save_model

STEPS, WARMUP = 20, 4


def expected(name: str, step: int, warmup: int, final: float, decay_share: float = 1.0) -> float:
    if step < warmup:
        return (step + 1) / (warmup + 1)
    after, length = step - warmup, STEPS - warmup
    if name == "linear":
        return ((length - after) * 1.0 + after * final) / length
    if name == "cosine":
        return final + (1.0 - final) * math.cos(math.pi / 2 * after / length) ** 2
    falling = decay_share * length
    left = min(falling, length - after)
    return final + (1.0 - final) * left / falling


@pytest.mark.parametrize("final", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("warmup", [0, WARMUP])
def test_factors_follow_the_formulas(warmup, final):
    for step in range(STEPS + 1):
        for name, schedule in (("linear", Linear(warmup, final)), ("cosine", Cosine(warmup, final))):
            assert schedule.factor(step, STEPS) == pytest.approx(expected(name, step, warmup, final), rel=0, abs=1e-12)
        for share in (0.25, 0.6, 1.0):
            found = WSDDecay(warmup, final, share).factor(step, STEPS)
            assert found == pytest.approx(expected("wsd", step, warmup, final, share), rel=0, abs=1e-12)


@pytest.mark.parametrize("schedule", [Linear(WARMUP, 0.3), Cosine(WARMUP, 0.3), WSDDecay(WARMUP, 0.3, 0.5)])
def test_the_peak_follows_the_warmup_and_the_end_is_final(schedule):
    factors = [schedule.factor(step, STEPS) for step in range(STEPS + 3)]
    assert factors[WARMUP] == max(factors) == 1.0
    assert factors[:WARMUP] == sorted(factors[:WARMUP]) and factors[0] > 0
    assert factors[WARMUP:] == sorted(factors[WARMUP:], reverse=True)
    assert factors[STEPS:] == pytest.approx([0.3] * 3, rel=1e-12)


def test_the_decay_share_of_the_steps_falls():
    factors = [WSDDecay(decay_share=0.25).factor(step, STEPS) for step in range(STEPS)]
    assert factors[:16] == [1.0] * 16
    assert factors[15:] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2], rel=1e-12)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        *((lambda c=c: c(warmup_steps=-1), "warmup_steps") for c in (Linear, Cosine, WSDDecay)),
        *((lambda c=c, v=v: c(final=v), "final") for c in (Linear, Cosine, WSDDecay) for v in (-0.1, 1.1, math.nan)),
        *((lambda v=v: WSDDecay(decay_share=v), "decay_share") for v in (0.0, -1.0, 1.5, math.nan)),
    ],
)
def test_settings_out_of_range_are_refused(make, field):
    with pytest.raises(ConfigError, match=rf"^model\.schedule\.{field}: got"):
        make()


@pytest.mark.parametrize(("tokens", "steps"), [(1000, 1), (1999, 1), (2000, 2), (123_456, 123)])
def test_a_horizon_in_tokens_is_rounded_down_to_whole_steps(tokens, steps):
    assert Horizon(tokens=tokens).in_steps(1000) == steps


def test_a_horizon_in_steps_is_taken_as_it_is():
    assert Horizon(steps=7).in_steps(10**9) == 7


def test_a_horizon_of_less_than_a_step_is_refused():
    with pytest.raises(ConfigError, match=r"^model\.horizon\.tokens: got 999, less than one step of 1000"):
        Horizon(tokens=999).in_steps(1000)


@pytest.mark.parametrize("given", [{}, {"steps": 1, "tokens": 1}, {"steps": 0}, {"tokens": 0}, {"steps": -5}])
def test_a_horizon_is_one_positive_number(given):
    with pytest.raises(ConfigError, match=r"^model\.horizon: got"):
        Horizon(**given).check()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_follows_the_schedule_to_its_end(tiny_rows, tiny_policy_dir, tmp_path, accumulate):
    tokens = 6 * 2 * accumulate * 132
    run = fit(
        tiny_rows,
        tiny_policy_dir,
        tmp_path,
        horizon=Horizon(tokens=tokens + 131),
        schedule=Cosine(warmup_steps=2, final=0.1),
        learning_rate=0.5,
        accumulate=accumulate,
    )
    assert run.module.num_steps == run.trainer.global_step == 6
    wanted = [0.5 / 3, 1.0 / 3, *(0.5 * (0.1 + 0.9 * (1 + math.cos(math.pi * k / 4)) / 2) for k in range(4))]
    assert run.logged("train/learning_rate") == pytest.approx(wanted, rel=1e-6)
    assert run.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.05, rel=1e-9)


def test_a_run_that_stops_early_keeps_to_the_horizon(tiny_rows, tiny_policy_dir, tmp_path):
    run = fit(
        tiny_rows, tiny_policy_dir, tmp_path, steps=10, schedule=Linear(), learning_rate=1.0, trainer={"max_steps": 3}
    )
    assert run.trainer.global_step == 3
    assert run.logged("train/learning_rate") == pytest.approx([1.0, 0.9, 0.8], rel=1e-6)


def decays(group: dict[str, Any], model: nn.Module) -> set[str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)] for parameter in group["params"]}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("no_decay", [[], ["embeddings"], ["vectors"], ["embeddings", "vectors"]], ids="-".join)
def test_weight_decay_spares_what_is_named(tiny_rows_split, tmp_path, tied, no_decay):
    directory = save_model(tmp_path / "policy", 1, tie_word_embeddings=tied)

    def run(weight_decay: float) -> Run:
        optimizer = partial(torch.optim.SGD, lr=0.5, weight_decay=weight_decay)
        return fit(tiny_rows_split, directory, tmp_path, steps=1, optimizer=optimizer, no_decay=no_decay)

    initial = AutoModelForCausalLM.from_pretrained(directory).state_dict()
    kept, decayed = run(0.0).parameters, run(0.2).parameters
    for name, value in kept.items():
        spared = ("embeddings" in no_decay and "embed_tokens" in name) or ("vectors" in no_decay and "norm" in name)
        expected = value if spared else value - 0.5 * 0.2 * initial[name]
        torch.testing.assert_close(decayed[name], expected, rtol=0, atol=1e-6)


def test_every_trained_parameter_is_in_one_group():
    model = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 2), nn.LayerNorm(2))
    model[1].bias.requires_grad_(False)
    groups = parameter_groups(model, ["embeddings", "vectors"])
    assert [decays(group, model) for group in groups] == [{"1.weight"}, {"0.weight", "2.weight", "2.bias"}]
    assert groups[1]["weight_decay"] == 0.0 and "weight_decay" not in groups[0]
    assert [decays(group, model) for group in parameter_groups(model, [])] == [
        {"0.weight", "1.weight", "2.weight", "2.bias"}
    ]


def test_a_warm_up_as_long_as_the_run_is_refused():
    Linear(warmup_steps=3).check(4)
    with pytest.raises(ConfigError, match=r"warmup_steps: got 4; give less than the horizon of 4 steps"):
        Linear(warmup_steps=4).check(4)
