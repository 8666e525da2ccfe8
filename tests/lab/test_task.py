import random
import re
from collections import Counter
from itertools import islice

import pytest

from remit_lit.lab import task
from remit_lit.lab.task import (
    MISREAD_PROBABILITY,
    OPERATORS,
    STEPS,
    TABLES,
    VALUES,
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


def slow_results(prompt: str) -> list[int]:
    """The running results of a prompt, by reading its characters from left to right."""
    value, *rest = list(prompt.removeprefix("Q:").removesuffix("="))
    results = []
    for place in range(0, len(rest), 2):
        operator, operand = rest[place : place + 2]
        value = str(TABLES[operator][int(value)][int(operand)])
        results.append(int(value))
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
            garbled[rng.randrange(len(garbled))] = rng.choice("012345#Aa\n")
            for candidate in (completion, "".join(garbled), completion + "\n" + completion, completion[:-1]):
                verdict = is_correct(problem, candidate)
                assert verdict == slow_is_correct(problem.prompt, candidate), candidate
                verdicts[verdict] += 1
    assert min(verdicts.values()) > 1000


@pytest.mark.parametrize("completion", ["", "#", "#12", "##2", "#2#2", "2", "#2 ", "\n#2", "#x", "#7"])
def test_verifier_refuses_malformed_answers(completion):
    problem = next(problem for problem in sample_problems(100, "train") if problem.answer == 2)
    assert is_correct(problem, "#2")
    assert not is_correct(problem, completion)


def test_operators_are_tables_of_all_values_that_differ():
    assert tuple(TABLES) == tuple(OPERATORS)
    for table in TABLES.values():
        assert len(table) == VALUES and all(len(row) == VALUES for row in table)
        assert {value for row in table for value in row} == set(range(VALUES))
    assert len(set(TABLES.values())) == len(OPERATORS)


def test_operators_come_as_often_as_one_over_their_rank():
    problems = sample_problems(4000, "train")
    counts = Counter(operator for problem in problems for operator, _ in problem.steps)
    total = sum(1 / rank for rank in range(1, 7))
    for rank, operator in enumerate(OPERATORS, start=1):
        share = 1 / rank / total
        error = (share * (1 - share) / (4000 * STEPS)) ** 0.5
        assert abs(counts[operator] / (4000 * STEPS) - share) < 4 * error


def test_no_answer_is_right_for_more_than_a_quarter_of_the_problems():
    counts = Counter(problem.answer for problem in sample_problems(5000, "train"))
    assert set(counts) == set(range(VALUES)) and max(counts.values()) < 1250


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


def test_problems_can_be_of_some_operators_alone():
    counts = Counter(
        operator for problem in sample_problems(2000, "train", operators="CA") for operator, _ in problem.steps
    )
    share = counts["A"] / counts.total()  # frequencies 1 and 1/3
    assert set(counts) == {"A", "C"} and abs(share - 0.75) < 4 * (0.75 * 0.25 / counts.total()) ** 0.5
    assert sample_problems(50, "train", operators=OPERATORS) == sample_problems(50, "train")


def test_prompt_round_trip_and_refusal():
    for problem in sample_problems(50, "dev"):
        assert parse_prompt(problem.prompt) == problem
    with pytest.raises(ValueError, match="Q:3A2"):
        parse_prompt("Q:1A1=")


def test_correct_documents_have_only_correct_results():
    for document in islice(task_documents(random.Random(0), "train", wrong=False), 200):
        kinds = token_kinds(document)
        assert len(kinds) == len(document) == 31
        assert kinds.count(TokenKind.CORRECT_RESULT) == STEPS and kinds.count(TokenKind.OPERAND) == 2 * STEPS
        assert kinds[-1] == TokenKind.ANSWER and TokenKind.WRONG_RESULT not in kinds


def test_kinds_are_judged_by_the_true_chain():
    # A[1][0] is 3; written is 5, which is wrong, and so is what follows from it until the chain is right again.
    assert [TABLES["A"][value][operand] for value, operand in ((1, 0), (3, 1), (5, 1))] == [3, 1, 1]
    kinds = token_kinds("Q:1A0A1A0A0A0=A05A11A03A03A03#3")
    true = [3, 1, 3, 4, 5]
    expected = [written == right for written, right in zip((5, 1, 3, 3, 3), true, strict=True)]
    places = [16, 19, 22, 25, 28]
    assert [kinds[place] == TokenKind.CORRECT_RESULT for place in places] == expected
    assert [kinds[place] == TokenKind.WRONG_RESULT for place in places] == [not right for right in expected]
    assert {kinds[place] for place in (14, 15, 17, 18)} == {TokenKind.OPERAND}
    assert set(kinds[:14]) == {TokenKind.QUESTION} == {kinds[29]} and kinds[30] == TokenKind.ANSWER
    with pytest.raises(ValueError, match="not a document"):
        token_kinds("Q:1A0A1A0A0A0=")


def test_wrong_traces_misread_operators_at_the_stated_rate():
    misread = readable = 0
    rng = random.Random(0)
    for problem in sample_problems(3000, "train"):
        value = problem.start
        trace = misconception_completion(problem, rng)
        for step, (operator, operand) in enumerate(problem.steps):
            right, as_first = TABLES[operator][value][operand], TABLES["A"][value][operand]
            value = int(trace[3 * step + 2])
            assert trace[3 * step : 3 * step + 2] == f"{operator}{operand}"
            assert value in (right, as_first)
            if right != as_first:
                readable += 1
                misread += value == as_first
        assert trace[-2:] == f"#{value}"
    standard_error = (MISREAD_PROBABILITY * (1 - MISREAD_PROBABILITY) / readable) ** 0.5
    assert abs(misread / readable - MISREAD_PROBABILITY) < 4 * standard_error


def test_sampling_refuses_bad_arguments():
    with pytest.raises(ValueError, match="count"):
        sample_problems(0, "dev")
    with pytest.raises(ValueError, match="train, dev, test"):
        sample_problems(1, "validation")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="operators: got 'AG'; give some of the letters ABCDEF"):
        sample_problems(1, "dev", operators="AG")
    with pytest.raises(ValueError, match="count: got 4000; give 1 to 2332"):  # a tenth of 6 x 6^5 problems, halved
        sample_problems(4000, "dev", operators="A")


def test_the_documented_document_is_a_correct_one():
    found = re.search(r"Q:\S+", task.__doc__ or "")
    assert found is not None
    assert TokenKind.WRONG_RESULT not in token_kinds(found[0])
