"""Verifiable rewards: the lab's answers, mathematics, unit tests, and instructions.

Each is a plain function with TRL's signature: ``prompts`` and ``completions`` as text or as messages, the columns of
the data by name, and a list of rewards, one per completion.
"""

import importlib
import importlib.util
import re
from collections.abc import Sequence
from typing import Any

from remit_lit.lab.task import correct_completion, is_correct, parse_prompt
from remit_lit.posttraining.reward_guard import requires

# Below the guard's default of 10 s, so that a program that never ends is a wrong answer, not a failing reward.
_CODE_SECONDS = 8.0
_FENCED = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL)


def lab_answer(prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float | None]:
    """1 for the exact answer to a problem of the lab, 0 otherwise."""
    pairs = zip(prompts, completions, strict=True)
    return [float(is_correct(parse_prompt(text_of(prompt)), text_of(completion))) for prompt, completion in pairs]


def lab_trace(prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float | None]:
    """1 for the whole correct trace and the exact answer to a problem of the lab, 0 otherwise.

    Values are few, so that a wrong trace often ends in the right answer, which ``lab_answer`` rewards.
    """
    pairs = zip(prompts, completions, strict=True)
    return [
        float(text_of(completion).split("\n", 1)[0] == correct_completion(parse_prompt(text_of(prompt))))
        for prompt, completion in pairs
    ]


def _no_math_verify() -> str | None:
    if importlib.util.find_spec("math_verify"):
        return None
    return "math-verify is not installed; pip install 'remit_lit[math]'"


@requires(_no_math_verify)
def math_answer(
    prompts: Sequence[Any], completions: Sequence[Any], answer: Sequence[str], **_: Any
) -> list[float | None]:
    r"""1 where the completion's final answer equals that of the column ``answer`` by math-verify, 0 otherwise.

    ``answer`` is LaTeX or plain; one without a dollar sign or ``\boxed`` is read as LaTeX. Answers are compared by
    value, so that ``2+3`` is right for 5, as in the field; one with an untrue equation, such as ``4=5``, is wrong.
    None, no reward, where math-verify finds no answer in the column itself.
    """
    from remit_lit.benchmarks.mathematics import is_right

    rewards: list[float | None] = []
    for completion, expected in zip(completions, answer, strict=True):
        marked = expected if "$" in expected or "\\boxed" in expected else f"${expected}$"
        # Its own time limits use the timer that guards rewards.
        right = is_right(marked, text_of(completion), seconds=None)
        rewards.append(None if right is None else float(right))
    return rewards


def _no_sandbox() -> str | None:
    from remit_lit.sandbox.programs import check_sandbox

    return check_sandbox()


@requires(_no_sandbox)
def code_tests(
    prompts: Sequence[Any], completions: Sequence[Any], tests: Sequence[str], **_: Any
) -> list[float | None]:
    """1 where the column ``tests`` (assertions) runs to its end on the completion's Python code, 0 otherwise.

    The code is the last fenced block, or the whole completion where there is none. Code and tests run in sandboxes of
    their own and exchange plain values only (see :func:`remit_lit.sandbox.tested.run_tests`), for 8 seconds at most.
    """
    from remit_lit.sandbox.tested import run_tests

    return [
        float(run_tests(_code(text_of(completion)), checks, seconds=_CODE_SECONDS).status == "passed")
        for completion, checks in zip(completions, tests, strict=True)
    ]


def _no_verifiers() -> str | None:
    try:  # not above, since lm-evaluation-harness looks for NLTK's data on a hub as soon as it is imported
        importlib.import_module("lm_eval.tasks.ifeval.utils")
    except ImportError as error:
        return f"{error.name} is not installed; pip install 'remit_lit[evaluation]'"
    return None


@requires(_no_verifiers)
def instructions(
    prompts: Sequence[Any],
    completions: Sequence[Any],
    instruction_id_list: Sequence[list[str]],
    kwargs: Sequence[list[dict[str, Any]]],
    **_: Any,
) -> list[float | None]:
    """1 where the completion follows every instruction by IFEval's verifiers (arXiv:2311.07911, strict), 0 otherwise.

    The columns are IFEval's: names such as ``punctuation:no_comma``, and arguments for each. The verifiers are those of
    lm-evaluation-harness; the ones that count sentences need NLTK's data ``punkt_tab``.
    """
    from lm_eval.tasks.ifeval.utils import InputExample, test_instruction_following_strict

    rewards: list[float | None] = []
    for prompt, completion, names, options in zip(prompts, completions, instruction_id_list, kwargs, strict=True):
        example = InputExample(0, names, text_of(prompt), options)
        rewards.append(float(test_instruction_following_strict(example, text_of(completion)).follow_all_instructions))
    return rewards


def text_of(value: Any) -> str:
    """A prompt or completion as text: of messages, the content of the last."""
    return value if isinstance(value, str) else str(value[-1]["content"])


def _code(completion: str) -> str:
    blocks = _FENCED.findall(completion)
    return str(blocks[-1]) if blocks else completion
