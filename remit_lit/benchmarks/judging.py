"""How our tasks judge a model's answers: ``process_results`` of their YAML files.

Each takes the record (see :mod:`remit_lit.benchmarks.offline`) and the results of its requests, and returns the
outcomes of the item by metric. Bits per byte are given as lm-evaluation-harness has them: log-likelihood in nats, and
bytes.
"""

import re
import string
from collections.abc import Sequence

import numpy as np

from remit_lit.benchmarks.mathematics import is_right
from remit_lit.benchmarks.records import Record
from remit_lit.sandbox.programs import run_code

Likelihood = tuple[float, bool]
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation + "‘’´", " "))  # noqa: RUF001  (quotes in answers)


def gold_bits(record: Record, results: Sequence[Likelihood]) -> dict[str, tuple[float, int]]:
    """Log-likelihood and UTF-8 bytes of the gold continuation."""
    ((log_likelihood, _),) = results
    return {"bits_per_byte": (log_likelihood, _bytes(record["continuation"]))}


def choices(record: Record, results: Sequence[Likelihood]) -> dict[str, float | tuple[float, int]]:
    """Whether the gold answer is the likeliest, by its log-likelihood and by that over its bytes; and its bits."""
    likelihoods = np.array([log_likelihood for log_likelihood, _ in results])  # [choices]
    sizes = np.array([_bytes(choice) for choice in record["choices"]])
    gold = record["gold"]
    return {
        "accuracy": float(likelihoods.argmax() == gold),
        "accuracy_per_byte": float((likelihoods / sizes).argmax() == gold),
        "bits_per_byte": (float(likelihoods[gold]), int(sizes[gold])),
    }


def letters(record: Record, results: Sequence[Likelihood]) -> dict[str, float]:
    """Whether the gold letter is the likeliest."""
    return {"accuracy": float(np.argmax([log_likelihood for log_likelihood, _ in results]) == record["gold"])}


def last_number(record: Record, results: Sequence[str]) -> dict[str, float]:
    """GSM8K: whether the last number of the answer is the right one."""
    numbers = [float(number.replace(",", "")) for number in _NUMBER.findall(results[0])]
    return {"accuracy": float(bool(numbers) and numbers[-1] == float(record["answer"].replace(",", "")))}


def math_answer(record: Record, results: Sequence[str]) -> dict[str, float]:
    """MATH: whether the answer equals that of the solution, see :func:`remit_lit.benchmarks.mathematics.is_right`."""
    return {"accuracy": float(is_right(record["solution"], results[0]) or False)}


def any_alias(record: Record, results: Sequence[str]) -> dict[str, float]:
    """TriviaQA: whether the answer is one of the aliases, normalised as by Joshi et al. (2017)."""
    words = _ARTICLES.sub(" ", results[0].lower().translate(_PUNCTUATION)).split()
    return {"accuracy": float(" ".join(words) in record["answers"])}


def humaneval(record: Record, results: Sequence[str]) -> dict[str, float]:
    """HumanEval: whether the completed function passes its tests, in the sandbox."""
    return _passed(f"{record['prompt']}{results[0]}\n{record['test']}\ncheck({record['entry_point']})\n")


def mbpp(record: Record, results: Sequence[str]) -> dict[str, float]:
    """MBPP: whether the program passes its tests, in the sandbox."""
    return _passed("\n".join([results[0], record["test_setup_code"], *record["test_list"]]) + "\n")


def _passed(program: str) -> dict[str, float]:
    return {"accuracy": float(run_code(program).status == "passed")}


def _bytes(text: str) -> int:
    return len(text.encode("utf-8"))
