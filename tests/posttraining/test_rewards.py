"""The rewards that come with the kit."""

import importlib.util
from typing import Any

import pytest

from remit_lit.errors import ConfigError
from remit_lit.lab.task import correct_completion, sample_problems
from remit_lit.posttraining.reward_guard import load_reward
from remit_lit.posttraining.rewards import code_tests, lab_answer, lab_trace, math_answer
from remit_lit.sandbox.programs import check_sandbox

PATH = "remit_lit.posttraining.rewards"


def test_the_labs_answer_is_judged_in_text_and_in_messages() -> None:
    problem = sample_problems(1, "train")[0]
    right = correct_completion(problem)
    wrong = right[:-1] + str((problem.answer + 1) % 6)
    assert lab_answer([problem.prompt] * 2, [right, wrong]) == [1.0, 0.0]
    asked = [[{"role": "user", "content": problem.prompt}]] * 2
    answered = [[{"role": "assistant", "content": text}] for text in (right, wrong)]
    assert lab_answer(asked, answered) == [1.0, 0.0]


def test_the_labs_trace_is_judged_with_its_answer() -> None:
    problem = sample_problems(1, "train")[0]
    right = correct_completion(problem)
    slipped = right[:2] + str((problem.results[0] + 1) % 6) + right[3:]
    wrong = right[:-1] + str((problem.answer + 1) % 6)
    given = [right, right + "\nQ:", slipped, wrong, right[-2:], ""]
    assert lab_trace([problem.prompt] * 6, given) == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert lab_answer([problem.prompt] * 6, given) == [1.0, 1.0, 1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("completion", "answer", "reward"),
    [
        (r"So we get $\boxed{\frac{1}{2}}$.", "0.5", 1.0),
        (r"The answer is $x = 3$", "3", 1.0),
        (r"$\boxed{2\sqrt{2}}$", r"$\sqrt{8}$", 1.0),
        (r"$\boxed{7}$", "8", 0.0),
        (r"$\boxed{4=5}$", "5", 0.0),
        (r"$\boxed{x=4=5}$", "5", 0.0),
        (r"$\boxed{2+3=5}$", "5", 1.0),
        (r"$\boxed{f(x)=5}$", "5", 1.0),
        (r"$\boxed{y-1=2x}$", "$y=2x+1$", 1.0),
        (r"$\boxed{1=2}$", "$1=2$", 0.0),
        ("I do not know", "8", 0.0),
        ("4=5", "5", 0.0),
        ("so 2 * 2 = 5.", "5", 0.0),
        ("1 + 1 = 3 = 5", "5", 0.0),
        ("So 10/2 = 5.", "5", 1.0),
        ("x = 5", "5", 1.0),
        ("f(2) = 5", "5", 1.0),
        ("x2 = 5", "5", 1.0),
        ("3 m = 300", "300", 1.0),
        ("First 3=4. The answer is 5", "5", 1.0),
        ("2+3", "5", 1.0),
        (r"$\boxed{2+3}$", "5", 1.0),
    ],
)
def test_mathematics_is_judged_by_value(completion: str, answer: str, reward: float) -> None:
    pytest.importorskip("math_verify")
    guarded = load_reward(f"{PATH}.math_answer")
    assert guarded(["?"], [completion], answer=[answer]) == [reward]
    assert guarded.failures == 0


def test_an_answer_column_without_an_answer_gives_no_reward() -> None:
    pytest.importorskip("math_verify")
    assert math_answer(["?"], ["8"], answer=[""]) == [None]


def test_without_math_verify_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def hidden(name: str, *rest: Any) -> Any:
        return None if name == "math_verify" else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    with pytest.raises(ConfigError, match=r"math_answer cannot be used here: .*remit_lit\[math\]"):
        load_reward(f"{PATH}.math_answer")


@pytest.mark.skipif(check_sandbox() is not None, reason=f"no sandbox: {check_sandbox()}")
def test_code_is_run_against_its_tests() -> None:
    tests = "assert double(2) == 4\nassert double(-1) == -2"
    answers = {
        "Here it is:\n```python\ndef double(x):\n    return 2 * x\n```\nDone.": 1.0,
        "def double(x):\n    return 2 * x": 1.0,
        "```python\ndef double(x):\n    return x + 2\n```": 0.0,
        "no code": 0.0,
    }
    assert code_tests(["?"] * 4, list(answers), tests=[tests] * 4) == list(answers.values())


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        ("<<A title>> one two three four", 1.0),
        ("<<A title>> one, two three four", 0.0),
        ("<<A title>> one two", 0.0),
        ("one two three four five six", 0.0),
        ("", 0.0),
    ],
)
def test_all_instructions_must_be_followed(completion: str, reward: float) -> None:
    pytest.importorskip("lm_eval")
    columns: dict[str, Any] = {
        "instruction_id_list": [["punctuation:no_comma", "length_constraints:number_words", "detectable_format:title"]],
        "kwargs": [[{"num_words": None}, {"num_words": 6, "relation": "at least"}, {"num_words": None}]],
    }
    guarded = load_reward(f"{PATH}.instructions")
    assert guarded(["Write."], [completion], **columns) == [reward]
    assert guarded(
        [[{"role": "user", "content": "Write."}]], [[{"role": "assistant", "content": completion}]], **columns
    )
    assert guarded.failures == 0


def test_an_instruction_that_nobody_knows_is_a_failure_of_its_sample() -> None:
    pytest.importorskip("lm_eval")
    guarded = load_reward(f"{PATH}.instructions")
    assert guarded(["Write."], ["text"], instruction_id_list=[["no:such"]], kwargs=[[{}]]) == [None]
    assert guarded.failures == 1


@pytest.mark.skipif(check_sandbox() is not None, reason=f"no sandbox: {check_sandbox()}")
def test_code_without_an_end_is_wrong_and_no_failure() -> None:
    guarded = load_reward(f"{PATH}.code_tests")
    assert guarded(["?"], ["while True: pass"], tests=["assert True"]) == [0.0]
    assert guarded.failures == 0


def test_without_a_sandbox_code_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remit_lit.sandbox.programs.check_sandbox", lambda: "no seccomp")
    with pytest.raises(ConfigError, match="code_tests cannot be used here: no seccomp"):
        load_reward(f"{PATH}.code_tests")
