"""Examples from files and datasets, and the check that held-out problems are not among them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit_lit.errors import ConfigError, DataError
from remit_lit.lab.task import sample_problems
from remit_lit.posttraining.examples import ExampleFiles, HubExamples, LabProblems, Mixture, examples_fingerprint
from remit_lit.posttraining.held_out import HeldOutExamples, LabHeldOut, check_held_out

QUESTION = "How many  eggs\nare left?"


def test_columns_are_kept_under_new_names(write_examples: Callable[..., ExampleFiles]) -> None:
    files = write_examples({"prompt": "a", "ground_truth": "1", "source": "x"}).files
    loaded = ExampleFiles(files, {"prompt": "prompt", "answer": "ground_truth"}).load()
    assert loaded.to_list() == [{"prompt": "a", "answer": "1"}]
    with pytest.raises(ConfigError, match=r"columns: .* has no columns \['gold'\]; it has"):
        ExampleFiles(files, {"answer": "gold"}).load()


@pytest.mark.parametrize(
    ("line", "why"), [('{"prompt": ', "line 2: not JSON"), ("[1]", "line 2: expected a JSON object, got list")]
)
def test_malformed_lines_are_named(line: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"prompt": "a"}}\n{line}\n')
    with pytest.raises(DataError, match=why):
        ExampleFiles(str(tmp_path / "a.jsonl")).load()


def test_files_without_examples_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no examples"):
        ExampleFiles(str(tmp_path / "a.jsonl")).load()
    with pytest.raises(ConfigError, match="nothing matches"):
        ExampleFiles(str(tmp_path / "b*.jsonl")).check()


def test_datasets_are_read_with_their_splits(tmp_path: Path) -> None:
    rows = [{"prompt": str(number), "completion": "x"} for number in range(10)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = HubExamples(str(tmp_path), split="train[:30%]", columns={"prompt": "prompt"}).load()
    assert loaded.to_list() == [{"prompt": "0"}, {"prompt": "1"}, {"prompt": "2"}]
    with pytest.raises(ConfigError, match="cannot read split 'test'"):
        HubExamples(str(tmp_path), split="test").load()


def test_a_mixture_is_its_parts_in_order(write_examples: Callable[..., ExampleFiles]) -> None:
    first, second = LabProblems(2, seed=1), LabProblems(3, seed=2)
    prompts = Mixture([first, second]).load()["prompt"][:]
    assert prompts == [problem.prompt for seed, n in ((1, 2), (2, 3)) for problem in sample_problems(n, "train", seed)]
    with pytest.raises(ConfigError, match="columns differ"):
        Mixture([first, write_examples({"messages": []})]).load()
    with pytest.raises(ConfigError, match="parts: got none"):
        Mixture([])


def test_fingerprints_tell_examples_apart() -> None:
    first, again, other = (examples_fingerprint(LabProblems(5, seed=seed).load()) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("split", ["dev", "test"])
def test_problems_of_the_labs_held_out_splits_are_found(split: Any) -> None:
    check_held_out(LabProblems(300).load(), [LabHeldOut()])
    with pytest.raises(DataError, match=rf"data: example 0 has the prompt 'Q:.*held out by the lab's {split} split"):
        check_held_out(LabProblems(3, split=split).load(), [LabHeldOut()])


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "HOW many eggs are left? ", "completion": "3"},
        {"messages": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "3"}]},
        {"prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": QUESTION}]},
        {"chosen": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "3"}], "rejected": []},
        {"messages": [{"role": "user", "content": "Hello"}, {"role": "user", "content": QUESTION}]},
    ],
)
def test_prompts_of_held_out_files_are_found_in_any_form(
    row: dict[str, Any], write_examples: Callable[..., ExampleFiles]
) -> None:
    held_out = HeldOutExamples(write_examples({"prompt": QUESTION}, name="test.jsonl"))
    free = write_examples({"prompt": "How many eggs were left?"}, name="free.jsonl").load()
    check_held_out(free, [held_out])
    with pytest.raises(DataError, match=r"data: example 0 has the prompt .*held out by ExampleFiles .*test\.jsonl"):
        check_held_out(write_examples(row).load(), [held_out])
