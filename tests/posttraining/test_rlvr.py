"""RLVR: what is logged, what failing rewards do, and that it learns what is rewarded."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from remit_lit.errors import ConfigError, DataError
from remit_lit.posttraining.dev_problems import DevProgress
from remit_lit.posttraining.examples import ExampleFiles, LabProblems
from remit_lit.posttraining.rlvr import RLVR
from tests.posttraining.conftest import training
from tests.posttraining.test_sft import record
from tests.processes import furthest

HERE = "tests.posttraining.rewards"


def rlvr(name: str = "has_digit", **changes: Any) -> RLVR:
    return RLVR(**{"reward": f"{HERE}.{name}", "max_new_tokens": 3, "samples": 4, **changes})


def metrics(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def test_it_learns_what_is_rewarded_and_says_so(run: Callable[..., Path]) -> None:
    progress = DevProgress(LabProblems(20, split="dev"), f"{HERE}.has_digit", 3, samples=4, k=[1, 4])
    folder = run(
        stage=rlvr(), data=LabProblems(200), training=training(steps=12, batch_size=32, beta2=0.95), progress=progress
    )
    before, after = record(folder)["before"], record(folder)["after"]
    assert before["pass@1"] <= before["pass@4"] and before["problems"] == 20
    assert after["pass@1"] > before["pass@1"] + 0.2
    logged = metrics(folder)[0]
    assert float(logged["reward_failures"]) == 0
    for name in ("reward", "rewards/has_digit/group_std", "frac_reward_zero_std", "completions/mean_length"):
        assert float(logged[name]) >= 0
    assert "kl" not in logged
    assert list(folder.glob("events.out.tfevents.*"))


def test_kl_to_the_start_is_logged_with_a_kl_term(run: Callable[..., Path]) -> None:
    folder = run(stage=rlvr(beta=0.1), training=training(steps=3, batch_size=16))
    kl = [float(line["kl"]) for line in metrics(folder) if line["kl"]]
    assert kl[0] == pytest.approx(0, abs=1e-6)
    assert kl[-1] > 1e-5


def test_a_failing_reward_is_counted_and_the_run_goes_on(run: Callable[..., Path]) -> None:
    folder = run(stage=rlvr("fails_on_letters"), training=training(batch_size=16))
    failures = [float(line["reward_failures"]) for line in metrics(folder) if line["reward_failures"]]
    assert sum(failures) == record(folder)["results"]["reward_failures"] > 0
    assert all(0 <= count <= 16 for count in failures)


def test_failures_of_several_rewards_are_added(run: Callable[..., Path]) -> None:
    rewards = [f"{HERE}.{name}" for name in ("raises", "gives_nan", "has_digit")]
    folder = run(stage=rlvr(reward=rewards), training=training(batch_size=8))
    assert [float(line["reward_failures"]) for line in metrics(folder) if line["reward_failures"]] == [16, 16]
    assert record(folder)["results"]["reward_failures"] == 32


def test_a_reward_that_always_fails_leaves_the_model_as_it_is(run: Callable[..., Path], tiny_policy_dir: Path) -> None:
    folder = run(stage=rlvr("raises"), training=training(batch_size=8))
    assert record(folder)["results"]["reward_failures"] == 16
    weights = load_file(folder / "model" / "model.safetensors"), load_file(tiny_policy_dir / "model.safetensors")
    assert furthest(*weights) == 0


def test_a_failing_reward_stops_the_run_where_asked(run: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="reward raises: RuntimeError: broken"):
        run(stage=rlvr("raises", on_reward_failure="stop"))


def test_groups_without_a_signal_are_counted(run: Callable[..., Path]) -> None:
    folder = run(stage=rlvr("never"), training=training(batch_size=8))
    assert {float(line["frac_reward_zero_std"]) for line in metrics(folder) if line["frac_reward_zero_std"]} == {1.0}


def test_columns_reach_the_reward(run: Callable[..., Path], write_examples: Callable[..., ExampleFiles]) -> None:
    rows = [{"prompt": f"Q:{digit}=", "wanted": "skip"} for digit in range(4)]
    folder = run(stage=rlvr("by_column"), data=write_examples(*rows))
    assert record(folder)["results"]["reward_failures"] == 0


def test_prompts_in_messages_go_without_their_answer(
    run: Callable[..., Path], write_examples: Callable[..., ExampleFiles], chat_template: str
) -> None:
    row = {"messages": [{"role": "user", "content": "Q:1="}, {"role": "assistant", "content": "3"}]}
    folder = run(stage=rlvr(), data=write_examples(*[row] * 4), chat_template=chat_template)
    assert record(folder)["data"]["used"] == 4


def test_prompts_without_room_for_an_answer_are_dropped(
    run: Callable[..., Path], write_examples: Callable[..., ExampleFiles]
) -> None:
    rows = [{"prompt": "Q:1="}] * 3 + [{"prompt": "Q:123450="}]
    folder = run(stage=rlvr(max_length=9), data=write_examples(*rows))
    assert record(folder)["dropped"] == {"too_long": 1}


@pytest.mark.parametrize(
    ("stage", "changes", "error", "why"),
    [
        ({"samples": 1}, {}, ConfigError, "stage.samples: got 1"),
        ({"max_new_tokens": 0}, {}, ConfigError, "stage.max_new_tokens: got 0"),
        ({"temperature": 0.0}, {}, ConfigError, "stage.temperature"),
        ({"reward": []}, {}, ConfigError, "stage.reward: got none"),
        ({"reward": "no.such"}, {}, ConfigError, "no function 'no.such'"),
        ({"reward_seconds": 0.0}, {}, ConfigError, "reward_seconds"),
        ({"samples": 3}, {}, ConfigError, "must be divisible"),
        ({}, {"trl": {"use_vllm": True}}, ConfigError, r"training.trl.use_vllm: .*remit_lit\[vllm\]"),
        ({}, {"batch_size": 64}, DataError, "got 8 prompts, but one optimizer step takes 16"),
    ],
)
def test_wrong_settings_are_refused(
    stage: dict[str, Any], changes: dict[str, Any], error: type[Exception], why: str, run: Callable[..., Path]
) -> None:
    with pytest.raises(error, match=why):
        run(stage=rlvr(**stage), training=training(**changes))
