"""Jobs in real processes: what fails, what is killed, what goes on."""

import json
import multiprocessing
import signal
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import psutil  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]

from remit_lit.errors import ConfigError
from remit_lit.jobs.job import Job
from remit_lit.jobs.scheduler import describe, estimated_seconds, run_jobs
from remit_lit.runs.checkpoint import all_checkpoints
from tests.processes import SECONDS, short_run
from tests.warm import ForkedProcess

pytestmark = pytest.mark.usefixtures("warm_jobs")


@pytest.fixture
def config(tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path) -> str:
    """A `fit` of 30 steps that sleeps in each, with a checkpoint every 5."""
    pace = {"class_path": "tests.faults.pace.Pace", "init_args": {"seconds": 0.02}}
    content = {**short_run(tiny_rows, tiny_policy_dir, 30, [pace]), "checkpoint": {"every_n_train_steps": 5}}
    path = tmp_path / "fit.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def jobs_of(config: str, root: Path) -> list[Job]:
    """Two runs, of which the second goes on from the first; one that fails; one that needs that."""
    first = Job("first-0", root, "fit", (config,), kind="first")
    second = Job("second-0", root, "fit", (config,), {"model.policy.path": "{base}/model"}, {"base": first}, kind="s")
    broken = Job("broken-0", root, "fit", (config,), {"model.horizn.steps": 3})
    lost = Job("lost-0", root, "fit", (config,), {"model.policy.path": "{base}/model"}, {"base": broken})
    return [second, lost]


@pytest.mark.fault("a job that fails", "it is told of, and the others are run")
def test_a_failed_job_is_told_of_and_the_others_are_run(config, tmp_path):
    second, lost = jobs_of(config, tmp_path / "jobs")
    first, broken = second.inputs["base"], lost.inputs["base"]
    assert estimated_seconds([second]) == {first.key: None, second.key: None}
    lines: list[str] = []
    run_jobs([second, lost], 2, lines.append)
    assert [job.state for job in (first, second, broken, lost)] == ["done", "done", "failed", "failed"]
    assert "model.horizn" in describe(broken) and str(broken.log) in describe(broken)
    assert lost.outcome["error"].startswith("needs broken-0, which failed (exit code 2: ")
    assert sorted(line.split("]")[0] for line in lines) == ["[1/4", "[2/4", "[3/4", "[4/4"]
    assert (second.result / "model" / "model.safetensors").exists()

    with broken.log.open("a") as log:
        log.write("error: said by an earlier try\n")
    done = (first.folder / "done.json").stat().st_mtime_ns
    failed = (broken.folder / "failed.json").stat().st_mtime_ns
    assert list(estimated_seconds([second, lost])) == [broken.key, lost.key]
    run_jobs([second, lost], 1, lines.append)
    assert (first.folder / "done.json").stat().st_mtime_ns == done  # reused
    assert (broken.folder / "failed.json").stat().st_mtime_ns > failed  # tried again
    assert "model.horizn" in broken.outcome["error"]


def run_first(config: str, root: Path) -> None:
    run_jobs([Job("first-0", root, "fit", (config,))], 1)


@pytest.mark.fault("kill -9 of the command that runs jobs", "nothing runs on, and the same command goes on")
def test_a_killed_run_leaves_nothing_running_and_goes_on(config, tmp_path):
    job = jobs_of(config, tmp_path / "jobs")[0].inputs["base"]
    process = ForkedProcess(run_first, [config, tmp_path / "jobs"], tmp_path / "printed.txt")
    checkpoints = job.result / "checkpoints"
    end = time.monotonic() + SECONDS
    while not all_checkpoints(checkpoints):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert psutil.wait_procs(below, timeout=20)[1] == []
    states: list[str] = [job.state]
    run_jobs([job], 1, lambda line: None)
    states.append(job.state)
    assert states == ["interrupted", "done"]
    assert "Restoring states" in job.log.read_text()


class StartMethod(pl.Callback):
    """Writes down how the run's process starts others."""

    def __init__(self, path: str) -> None:
        self.path = path

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        Path(self.path).write_text(multiprocessing.get_start_method())


def test_a_job_starts_data_workers_as_a_command_line_does(tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path):
    written = tmp_path / "method.txt"
    callback = {"class_path": "tests.jobs.test_scheduler.StartMethod", "init_args": {"path": str(written)}}
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(short_run(tiny_rows, tiny_policy_dir, 1, [callback])))
    run_jobs([Job("run-0", tmp_path / "jobs", "fit", (str(tmp_path / "fit.yaml"),))], 1, lambda line: None)
    assert written.read_text() == multiprocessing.get_start_method()


def test_jobs_are_counted_in_ones():
    with pytest.raises(ConfigError, match="jobs: got 0"):
        run_jobs([], 0)


def test_jobs_that_share_a_process_find_what_each_would_find_alone(tiny_rows, tiny_policy_dir, tmp_path):
    """Runs after one that leaves its mark on all that a process keeps, and after one that failed."""
    content = short_run(tiny_rows, tiny_policy_dir, 4, [{"class_path": "tests.jobs.litter.Litter"}])
    config = tmp_path / "fit.yaml"
    config.write_text(yaml.safe_dump(content))

    def jobs(root: str) -> list[Job]:
        fields: list[dict[str, Any]] = [{"seed_everything": 1}, {"model.horizn": 1}, {"data.seed": 2}, {"data.seed": 3}]
        return [Job(f"{n}", tmp_path / root, "fit", (str(config),), values) for n, values in enumerate(fields)]

    alone, shared = jobs("alone"), jobs("shared")
    run_jobs(alone, 1, lambda line: None)
    run_jobs(shared, 1, lambda line: None, share_process=True)
    for one, other in zip(alone, shared, strict=True):
        assert one.state == other.state == ("failed" if one.name == "1" else "done")
        if one.state == "done":
            weights = [(job.result / "model" / "model.safetensors").read_bytes() for job in (one, other)]
            assert weights[0] == weights[1]
            seen = [json.loads((job.result / "litter.json").read_text()) for job in (one, other)]
            assert seen[0] | {"process": 0} == seen[1] | {"process": 0}
            assert f"{one.result}" in one.log.read_text() and f"{other.result}" in other.log.read_text()
    processes = [json.loads((shared[n].result / "litter.json").read_text())["process"] for n in (0, 2, 3)]
    assert processes[0] != processes[1] == processes[2]  # a failure ends the process


@pytest.mark.fault("kill -9 of a process that jobs share", "only its job is lost, and told of")
def test_a_shared_process_that_dies_takes_only_its_job_with_it(tiny_rows, tiny_policy_dir, tmp_path):
    content = short_run(tiny_rows, tiny_policy_dir, 2, [{"class_path": "tests.jobs.litter.Dies"}])
    config = tmp_path / "fit.yaml"
    config.write_text(yaml.safe_dump(content))
    jobs = [Job(f"{n}", tmp_path, "fit", (str(config),), {"data.seed": n}) for n in range(3)]
    run_jobs(jobs, 1, lambda line: None, share_process=True)
    assert [job.state for job in jobs] == ["done", "failed", "done"]
    assert jobs[1].outcome["error"] == "its process died with exit code 9"
