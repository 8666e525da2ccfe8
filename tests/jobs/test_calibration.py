"""What a dry run expects of jobs of which none of their kind has run here."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from remit_lit.errors import DataError
from remit_lit.jobs.calibration import Calibration, shipped
from remit_lit.jobs.job import Job
from remit_lit.jobs.report import print_plan
from remit_lit.recipes.job_seconds import calibrate

ALIKE = Calibration(
    "a machine", "2026-01-31", "0", {"fit a.yaml": 10.0, "fit a.yaml b.yaml": 20.0, "fit a.yaml c": 40.0}
)


def ended(root: Path, name: str, kind: str, **facts: float) -> Job:
    job = Job(name, root, "evaluate", (), {"seed": name}, kind=kind)
    job.begin()
    job.result.mkdir()
    (job.result / "evaluation.json").write_text("{}")
    job.end(None, **facts)
    return job


def printed(jobs: list[Job], at_once: int, capsys: pytest.CaptureFixture[str]) -> str:
    print_plan(jobs, at_once, Console(width=200))
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [
        ("fit a.yaml", 10.0),  # itself, and not those that begin with it
        ("fit a.yaml b.yaml d.yaml", 20.0),
        ("fit a.yaml d.yaml", 20.0),
        ("fit b.yaml", None),
        ("score a.yaml", None),
    ],
)
def test_kinds_that_begin_alike_take_alike(kind: str, seconds: float | None) -> None:
    assert ALIKE.of(kind) == seconds


def test_a_fresh_clone_expects_what_jobs_took_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind = "fit experiments/quickstart.yaml experiments/lab/measured.yaml baselines/remit.yaml"
    jobs = [Job(f"remit-{seed}", tmp_path, "fit", (), {"seed": seed}, kind=kind) for seed in range(9)]
    said = printed(jobs, 2, capsys)
    seconds = shipped().cpu_seconds[kind]
    assert said.count(f"{seconds:.0f} (calibrated)") == 9 and "unknown" not in said
    minutes = -(-9 * seconds // 120)
    assert f"about {minutes:.0f} minutes with 2 at a time, and 9 of them calibrated" in said
    assert f"{shipped().machine}, {shipped().date}" in said


def test_what_ran_here_counts_and_what_nobody_ran_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = "evaluate tasks=['lab']"
    assert shipped().of(kind) is not None
    ended(tmp_path, "first", kind, seconds=77.0)
    here, odd = (
        Job(name, tmp_path, "evaluate", (), {"seed": name}, kind=its) for name, its in (("b", kind), ("c", "odd"))
    )
    said = printed([here, odd], 1, capsys)
    assert " 77 " in said and "unknown" in said and "calibrated" not in said
    assert "about 2 minutes with 1 at a time, and 1 of kinds that have never run here" in said


def test_the_seconds_of_finished_jobs_are_kept_by_kind(tmp_path: Path) -> None:
    for number, seconds in enumerate((1.0, 5.0, 2.0)):
        ended(tmp_path, f"a{number}", "a", seconds=9.0, cpu_seconds=seconds)
    ended(tmp_path, "old", "b", seconds=9.0)  # of a version that did not count them
    made = calibrate(tmp_path)
    assert made.cpu_seconds == {"a": 2.0} and "cores of" in made.machine and made.date[:2] == "20"
    made.write(tmp_path / "made.json")
    assert Calibration(**json.loads((tmp_path / "made.json").read_text())) == made
    with pytest.raises(DataError, match=r"cells: .*none has no job that ended well"):
        calibrate(tmp_path / "none")
