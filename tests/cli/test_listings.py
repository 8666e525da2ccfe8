"""What the verbs that list things say, without importing what they list where that takes long."""

import inspect
import sys
from pathlib import Path

import pytest
from lm_eval.tasks import TaskManager

import remit_lit.weighting
from remit_lit.benchmarks.listing import TASKS
from remit_lit.cli.dispatch import main
from remit_lit.weighting import TokenWeighting
from tests.processes import SECONDS
from tests.warm import ForkedProcess, forget


def test_every_strategy_is_listed_with_its_paper(capsys: pytest.CaptureFixture[str]) -> None:
    main(["strategies"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    known = {name for name, kind in vars(remit_lit.weighting).items() if inspect.isclass(kind)}
    strategies = {name for name in known if issubclass(getattr(remit_lit.weighting, name), TokenWeighting)}
    assert set(lines) == strategies - {"TokenWeighting"}
    assert all(f" remit_lit.weighting.{name} " in line for name, line in lines.items())
    assert "arXiv:2602.03075" in lines["ReMiT"] and "reads a reference" in lines["ReMiT"]
    assert "arXiv:2404.07965" in lines["Rho1"] and "reads a reference" not in lines["ESLM"]


def test_every_task_of_the_package_is_listed_with_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    main(["tasks"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    known = TaskManager(include_path=str(TASKS), include_defaults=False)
    assert set(lines) == set(known.all_tasks) | {"lab", "FILE.jsonl"}
    assert "(offline/generation/gsm8k.yaml)" in lines["offline_gsm8k"]
    assert "Wei et al. (2022)" in lines["offline_gsm8k"]
    assert "Bits per byte" in lines["offline_mbpp_bpb"]  # as the file that it includes says


def list_tasks_without_libraries() -> None:
    forget("lm_eval", "lightning", "torch", "remit_lit")
    sys.modules |= dict.fromkeys(["lm_eval", "lightning", "torch"])  # type: ignore[arg-type]
    from remit_lit.cli.dispatch import main as anew

    anew(["tasks"])


def test_tasks_are_listed_without_the_libraries_that_take_seconds_to_import(tmp_path: Path) -> None:
    process = ForkedProcess(list_tasks_without_libraries, [], tmp_path / "printed.txt")
    assert process.wait(SECONDS) == 0
    assert "offline_gsm8k" in (tmp_path / "printed.txt").read_text()
