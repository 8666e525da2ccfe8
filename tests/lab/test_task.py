import random
from collections import Counter
from itertools import islice

import pytest

from remit_lit.lab.task import (
    MISREAD_PROBABILITY,
    STEPS,
    Problem,
    Split,
    TokenKind,
    correct_completion,
    is_correct,
    misconception_completion,
    parse_prompt,
    sample_problems,
    split_of,
    task_documents,
    token_kinds,
)

SLOW_OPERATORS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}


def slow_results(prompt: str) -> list[int]:
    """The running results of a prompt, computed over the integers and reduced only when they are read."""
    characters = list(prompt.removeprefix("Q:").removesuffix("="))
    value, results = int(characters.pop(0)), []
    while characters:
        operator, digit = characters.pop(0), int(characters.pop(0))
        value = SLOW_OPERATORS[operator](value, digit)
        results.append(((value % 10) + 10) % 10)
    return results


def slow_is_correct(prompt: str, completion: str) -> bool:
    _, separator, answer = completion.partition("\n")[0].partition("#")
    return separator == "#" and len(answer) == 1 and answer.isdigit() and int(answer) == slow_results(prompt)[-1]


def test_results_agree_with_a_slow_reimplementation():
    for problem in sample_problems(500, "train", seed=3):
        assert list(problem.results) == slow_results(problem.prompt)


def test_verifier_agrees_with_a_slow_reimplementation():
    rng = random.Random(0)
    verdicts: Counter[bool] = Counter()
    for problem in sample_problems(1000, "train"):
        for completion in (correct_completion(problem), misconception_completion(problem, rng)):
            garbled = list(completion)
            garbled[rng.randrange(len(garbled))] = rng.choice("0123456789#+a\n")
            for candidate in (completion, "".join(garbled), completion + "\n" + completion, completion[:-1]):
                verdict = is_correct(problem, candidate)
                assert verdict == slow_is_correct(problem.prompt, candidate), candidate
                verdicts[verdict] += 1
    assert min(verdicts.values()) > 1000


@pytest.mark.parametrize("completion", ["", "#", "#12", "##2", "#2#2", "2", "#2 ", "\n#2", "#x"])
def test_verifier_refuses_malformed_answers(completion):
    problem = Problem(1, (("+", 1),) * 4 + (("-", 3),))
    assert problem.answer == 2
    assert is_correct(problem, "#2")
    assert not is_correct(problem, completion)


def test_guessing_is_right_one_time_in_ten():
    counts = Counter(problem.answer for problem in sample_problems(5000, "train"))
    assert all(abs(counts[digit] / 5000 - 0.1) < 0.02 for digit in range(10))


def test_splits_never_share_a_problem():
    seen: dict[Split, set[str]] = {"train": set(), "dev": set(), "test": set()}
    for split, prompts in seen.items():
        for seed in range(5):
            prompts |= {problem.prompt for problem in sample_problems(500, split, seed)}
            assert all(split_of(prompt) == split for prompt in prompts)
    assert not seen["train"] & seen["dev"] and not seen["train"] & seen["test"] and not seen["dev"] & seen["test"]


def test_problems_are_distinct_and_deterministic():
    problems = sample_problems(2000, "test", seed=1)
    assert len(set(problems)) == 2000
    assert problems == sample_problems(2000, "test", seed=1)
    assert problems[:100] == sample_problems(100, "test", seed=1)
    assert problems != sample_problems(2000, "test", seed=2)


def test_prompt_round_trip_and_refusal():
    for problem in sample_problems(50, "dev"):
        assert parse_prompt(problem.prompt) == problem
    with pytest.raises(ValueError, match="Q:8-5"):
        parse_prompt("Q:1+1=")


def test_correct_documents_have_only_correct_results():
    for document in islice(task_documents(random.Random(0), "train", wrong=False), 200):
        kinds = token_kinds(document)
        assert len(kinds) == len(document) == 31
        assert kinds.count(TokenKind.CORRECT_RESULT) == STEPS + 1
        assert TokenKind.WRONG_RESULT not in kinds


def test_kinds_are_judged_by_the_true_chain():
    # 1*3=3 is read as 4; 4+0=4 follows from it, and is wrong all the same; 4*0=0 is right again.
    kinds = token_kinds("Q:1*3+0*0+2-1=*34+04*00+22-11#1")
    assert [(place, kind.name) for place, kind in enumerate(kinds) if kind] == [
        (16, "WRONG_RESULT"),
        (19, "WRONG_RESULT"),
        (22, "CORRECT_RESULT"),
        (25, "CORRECT_RESULT"),
        (28, "CORRECT_RESULT"),
        (30, "CORRECT_RESULT"),
    ]
    with pytest.raises(ValueError, match="not a document"):
        token_kinds("Q:1*3+0*0+2-1=")


def test_wrong_traces_misread_operators_at_the_stated_rate():
    misread = readable = 0
    rng = random.Random(0)
    for problem in sample_problems(3000, "train"):
        value = problem.start
        trace = misconception_completion(problem, rng)
        for step, (operator, digit) in enumerate(problem.steps):
            right, as_plus = SLOW_OPERATORS[operator](value, digit) % 10, (value + digit) % 10
            value = int(trace[3 * step + 2])
            assert trace[3 * step : 3 * step + 2] == f"{operator}{digit}"
            assert value in (right, as_plus)
            if right != as_plus:
                readable += 1
                misread += value == as_plus
        assert trace[-2:] == f"#{value}"
    standard_error = (MISREAD_PROBABILITY * (1 - MISREAD_PROBABILITY) / readable) ** 0.5
    assert abs(misread / readable - MISREAD_PROBABILITY) < 4 * standard_error


def test_sampling_refuses_bad_arguments():
    with pytest.raises(ValueError, match="count"):
        sample_problems(0, "dev")
    with pytest.raises(ValueError, match="train, dev, test"):
        sample_problems(1, "validation")  # type: ignore[arg-type]
