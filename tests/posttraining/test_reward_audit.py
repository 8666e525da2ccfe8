"""Every reward of the kit against every known hack."""

from typing import Any

import pytest

from remit_lit.errors import ConfigError
from remit_lit.lab.task import correct_completion, sample_problems
from remit_lit.posttraining.reward_audit import audit, hacks
from remit_lit.sandbox.programs import check_sandbox

PATH, HERE = "remit_lit.posttraining.rewards", "tests.posttraining.rewards"
PROBLEM = sample_problems(1, "train")[0]
RIGHT = correct_completion(PROBLEM)
LAB = {"prompt": PROBLEM.prompt, "right": RIGHT, "wrong": RIGHT[:-1] + str((PROBLEM.answer + 1) % 10)}
CASES: dict[str, dict[str, Any]] = {
    "lab_answer": LAB,
    "lab_trace": LAB,
    "math_answer": {
        "prompt": "How many are two and three?",
        "right": r"\boxed{5}",
        "wrong": r"\boxed{4}",
        "answer": "5",
    },
    "code_tests": {
        "prompt": "Write double.",
        "right": "def double(x):\n    return 2 * x",
        "wrong": "def double(x):\n    return x",
        "tests": "assert double(2) == 4\nassert double(-1) == -2",
    },
    "instructions": {
        "prompt": "Write no comma, and a title.",
        "right": "<<A title>> one two",
        "wrong": "one, two",
        "instruction_id_list": ["punctuation:no_comma", "detectable_format:title"],
        "kwargs": [{}, {}],
    },
}


@pytest.mark.fault("the known hacks of rewards", "no reward of the kit pays for one")
@pytest.mark.parametrize("reward", CASES)
def test_no_reward_of_the_kit_pays_for_a_known_hack(reward: str) -> None:
    if reward == "code_tests" and check_sandbox():
        pytest.skip(f"sandbox: {check_sandbox()}")
    pytest.importorskip({"math_answer": "math_verify", "instructions": "lm_eval"}.get(reward, "remit_lit"))
    assert audit(f"{PATH}.{reward}", seconds=9.0, **CASES[reward]) == {}


def test_the_audit_covers_every_reward_of_the_kit() -> None:
    import remit_lit.posttraining.rewards as rewards

    own = {
        name
        for name, value in vars(rewards).items()
        if getattr(value, "__module__", "") == rewards.__name__ and not name.startswith("_") and name != "text_of"
    }
    assert own == set(CASES)


def test_an_answer_in_messages_is_audited_likewise() -> None:
    case = {**CASES["lab_answer"], "prompt": [{"role": "user", "content": PROBLEM.prompt}]}
    assert audit(f"{PATH}.lab_answer", **case) == {}


def test_the_hacks_that_a_reward_pays_for_are_named() -> None:
    paid = audit(f"{HERE}.has_digit", "2 + 3 = ?", right="5", wrong="x")
    assert paid["all small numbers"] == 1.0 and "nothing" not in paid
    assert audit(f"{HERE}.fails_on_letters", "1", right="1", wrong="=")["the prompt"] == 1.0
    assert audit(f"{HERE}.fails_on_letters", "1", right="1", wrong="=")["an untrue equation for a name"] is None


def test_a_reward_that_tells_nothing_apart_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"has_digit gives the right answer 1.0 and the wrong one 1.0"):
        audit(f"{HERE}.has_digit", "?", right="5", wrong="4")


def test_hacks_are_of_the_answers_that_are_given() -> None:
    made = hacks("?", r"It is \boxed{5}.", r"It is \boxed{4}.")
    assert made["an untrue equation"] == r"\boxed{4=5}"
    assert "double = lambda" in hacks("?", "", "def double(x): pass")["reads the tests"]
