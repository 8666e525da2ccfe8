"""What a cluster is asked for, and what becomes of jobs that end without a word; by stand-ins for SLURM's commands."""

import os
import sys
from pathlib import Path

import pytest

from remit_lit.errors import ConfigError
from remit_lit.jobs.cluster import Resources, SlurmSettings
from remit_lit.jobs.job import Job
from remit_lit.jobs.scheduler import run_jobs

# A job ends as soon as it is submitted, in the state that a file says.
SBATCH = """#!/bin/bash
cd "$(dirname "$0")"
echo x >> submitted
number=$(wc -l < submitted)
echo "$number|$(cat state)|(Why)|$(sed -n 's/^#SBATCH --comment=//p' "$1")" >> queue
cp "$1" script
echo "Submitted batch job $number"
"""
SQUEUE = """#!/bin/bash
cat "$(dirname "$0")/queue"
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the stand-ins."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {"sbatch": SBATCH, "squeue": SQUEUE, "srun": "#!/bin/bash\n"}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "queue").touch()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def submitted(cluster: Path) -> int:
    return len((cluster / "queue").read_text().splitlines())


def settings(**changes) -> SlurmSettings:
    return SlurmSettings(poll_seconds=0.1, **changes)


@pytest.mark.parametrize(
    ("state", "tries"), [("NODE_FAIL", 3), ("OUT_OF_MEMORY", 3), ("COMPLETED", 3), ("CANCELLED", 1)]
)
def test_a_job_that_ends_without_a_word_is_tried_so_often(
    state: str, tries: int, cluster: Path, tmp_path: Path
) -> None:
    (cluster / "state").write_text(state)
    job, lines = Job("a", tmp_path / "jobs", "fit"), list[str]()
    run_jobs([job], None, lines.append, slurm=settings(tries=3))
    assert job.state == "failed" and submitted(cluster) == tries
    assert f"SLURM job {tries} is {state} (Why)" in job.outcome["error"]
    assert sum("it is submitted again" in line for line in lines) == tries - 1


def test_an_earlier_failure_is_none_of_the_next_try(cluster: Path, tmp_path: Path) -> None:
    (cluster / "state").write_text("CANCELLED")
    job = Job("a", tmp_path / "jobs", "fit")
    job.begin()
    job.end("of another time")
    run_jobs([job], None, lambda line: None, slurm=settings())
    assert "SLURM job 1 is CANCELLED" in job.outcome["error"]


def test_a_command_that_said_why_it_failed_is_not_tried_again(cluster: Path, tmp_path: Path) -> None:
    (cluster / "state").write_text("RUNNING")
    job = Job("a", tmp_path / "jobs", "fit")

    def fails(line: str) -> None:
        if "RUNNING" in line:
            job.end("exit code 2: model.horizn: there is no such field")
            (cluster / "queue").write_text((cluster / "queue").read_text().replace("RUNNING", "FAILED"))

    run_jobs([job], None, fails, slurm=settings())
    assert submitted(cluster) == 1 and "model.horizn" in job.outcome["error"]


def test_nothing_is_submitted_while_slurm_does_not_say_what_it_has(cluster: Path, tmp_path: Path) -> None:
    (cluster / "state").write_text("CANCELLED")
    (cluster / "queue").rename(cluster / "away")
    submitted_before = []

    def answer(line: str) -> None:
        if "squeue does not answer" in line:
            submitted_before.append((cluster / "submitted").exists())
            (cluster / "away").rename(cluster / "queue")

    job = Job("a", tmp_path / "jobs", "fit")
    run_jobs([job], None, answer, slurm=settings())
    assert submitted_before == [False] and "SLURM job 1 is CANCELLED" in job.outcome["error"]


def test_all_that_is_ready_waits_at_once_or_so_many(cluster: Path, tmp_path: Path) -> None:
    (cluster / "state").write_text("CANCELLED")
    jobs = [Job(str(n), tmp_path / "jobs", "fit", fields={"seed": n}) for n in range(3)]
    most: list[int] = []
    run_jobs(jobs, 2, lambda line: most.append(submitted(cluster)), slurm=settings())
    assert most[0] == 2
    (cluster / "queue").write_text("")
    most.clear()
    run_jobs(jobs, None, lambda line: most.append(submitted(cluster)), slurm=settings())
    assert most[0] == 3


def test_a_verb_asks_for_what_is_its_own(cluster: Path, tmp_path: Path) -> None:
    (cluster / "state").write_text("CANCELLED")
    asked = settings(
        partition="long",
        minutes=30,
        options={"account": "physics"},
        setup=["module load cuda"],
        verbs={"fit": Resources(gpus=8, nodes=2, minutes=90, memory=1.5)},
    )
    job = Job("a", tmp_path / "jobs", "fit")
    run_jobs([job], None, lambda line: None, slurm=asked)
    lines = (cluster / "script").read_text().splitlines()
    for line in ("partition=long", "gpus-per-node=8", "ntasks-per-node=8", "nodes=2", "time=90", "mem=1536MB"):
        assert f"#SBATCH --{line}" in lines
    assert {"#SBATCH --account=physics", "#SBATCH --requeue", "#SBATCH --signal=USR1@120", "module load cuda"} <= {
        *lines
    }
    assert not any("cpus-per-task" in line for line in lines)
    evaluation = asked.of("evaluate")
    assert (evaluation.minutes, evaluation.gpus, evaluation.tasks, evaluation.nodes) == (30, None, 1, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (SlurmSettings(verbs={"fitt": Resources()}), "slurm.verbs: got 'fitt'; did you mean fit?"),
        (SlurmSettings(minutes=0), "slurm.minutes: got 0; give at least 1, or null"),
        (SlurmSettings(verbs={"fit": Resources(gpus=-1)}), "slurm.verbs.fit.gpus: got -1; give at least 0"),
        (
            SlurmSettings(verbs={"evaluate": Resources(tasks=8)}),
            "evaluate.tasks: got 8 .* only fit, prepare, score",
        ),
        (SlurmSettings(tries=0), "slurm.tries: got 0; give at least 1"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(wrong: SlurmSettings, message: str, cluster: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        run_jobs([Job("a", tmp_path / "jobs", "fit")], None, slurm=wrong)
    assert submitted(cluster) == 0


def test_without_a_cluster_or_submitit_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job("a", tmp_path / "jobs", "fit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="launcher: got 'slurm', but there is no sbatch on PATH"):
        run_jobs([job], None, slurm=SlurmSettings())
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ModuleNotFoundError) as missing:
        run_jobs([job], None, slurm=SlurmSettings())
    assert missing.value.name == "submitit" and job.state == "missing"
