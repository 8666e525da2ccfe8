"""The guard around rewards: what each fault costs, and what is said of it."""

import logging
import signal
import time

import pytest

from remit_lit.errors import ConfigError, DataError
from remit_lit.posttraining.reward_guard import load_reward
from remit_lit.posttraining.shared_reward import SharedReward

HERE = "tests.posttraining.rewards"
FAULTS = {
    "raises": "RuntimeError: broken",
    "gives_nan": "returned nan",
    "gives_infinity": "returned inf",
    "gives_two": "returned 2 rewards for one completion",
    "gives_text": "could not convert string to float",
    "hangs": "no result within 0.05 s",
}


@pytest.mark.fault("a reward that fails for one answer", "it is counted, and costs that sample alone")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_counted_and_costs_its_sample(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    reward = load_reward(f"{HERE}.{fault}", seconds=0.05)
    with caplog.at_level(logging.WARNING):
        lost = 0.0 if fault == "hangs" else None  # an answer that runs out of time must not escape a disadvantage
        assert reward(["a", "b"], ["1", "2"]) == [lost, lost]
    assert reward.failures == 2
    assert len(caplog.records) == 1
    assert f"reward {fault}: " in caplog.text and FAULTS[fault] in caplog.text


@pytest.mark.fault("a reward that fails for one answer, with `stop`", "the run ends with its message")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_stops_the_run_where_asked(fault: str) -> None:
    reward = load_reward(f"{HERE}.{fault}", seconds=0.05, on_failure="stop")
    with pytest.raises(DataError, match=rf"reward {fault}: .*on_reward_failure: continue"):
        reward(["a"], ["1"])


def test_others_keep_their_rewards() -> None:
    assert load_reward(f"{HERE}.fails_on_letters")(["a"] * 3, ["1", "x", "="]) == [1.0, None, 0.0]


@pytest.mark.fault("an answer whose reward runs out of time", "it gets the lowest reward")
def test_an_answer_that_runs_out_of_time_gets_the_lowest_reward() -> None:
    reward = load_reward(f"{HERE}.as_told", seconds=0.05)
    assert reward(["a"] * 5, ["2", "hang", "-3", "-1", "hang"]) == [2.0, 0.0, -3.0, -1.0, -3.0]
    assert reward.failures == 2


@pytest.mark.fault("a reward that swallows the end of its time", "it is ended again")
def test_code_that_swallows_the_end_of_its_time_is_ended_again() -> None:
    began = time.monotonic()
    reward = load_reward(f"{HERE}.sleeps_and_swallows", seconds=0.05)
    reward(["a"], ["1"])
    assert time.monotonic() - began < 20


def test_the_timer_is_gone_afterwards() -> None:
    before = signal.getsignal(signal.SIGALRM)
    load_reward(f"{HERE}.hangs", seconds=0.05)(["a"], ["1"])
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_wrong_setting_is_no_fault_of_a_sample() -> None:
    with pytest.raises(ConfigError, match="give that"):
        load_reward(f"{HERE}.wrong_setting")(["a"], ["1"])


def test_each_sample_gets_its_own_columns_and_may_have_no_reward() -> None:
    reward = load_reward(f"{HERE}.by_column")
    assert reward(["p"] * 3, ["1", "2", "3"], wanted=["1", "3", "skip"]) == [1.0, 0.0, None]
    assert reward.failures == 0


def test_the_spread_within_groups_is_logged() -> None:
    logged: dict[str, float] = {}
    reward = SharedReward(load_reward(f"{HERE}.has_digit"))
    reward(["p", "p", "q", "q"], ["1", "x", "1", "2"], log_metric=logged.__setitem__)
    assert logged["rewards/has_digit/group_std"] == pytest.approx((0.5 + 0.0) / 2)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("no_such_module.exact", "No module named"),
        (f"{HERE}.no_such", "no attribute"),
        ("exact", "give module.function"),
        (f"{HERE}.NOT_A_FUNCTION", "is not a plain function"),
        (f"{HERE}.later", "is not a plain function"),
    ],
)
def test_what_is_no_reward_is_refused(path: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        load_reward(path)
