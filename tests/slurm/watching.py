"""What the tests do to jobs of SLURM's while their crew waits for them."""

import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from remit_lit.jobs.cluster import SlurmSettings
from remit_lit.jobs.job import Job
from remit_lit.jobs.scheduler import run_jobs
from tests.processes import short_run


def settings(**changes: Any) -> SlurmSettings:
    """Of jobs of one CPU, which are looked at twice a second."""
    return SlurmSettings(**{"cpus": 1, "minutes": 10, "poll_seconds": 0.5, **changes})


def fit(directory: Path, rows: Path, policy: Path, *, steps: int = 2, seconds: float = 0.0, seed: int = 0) -> Job:
    """A `fit` that sleeps in each step and writes a checkpoint after every other."""
    callbacks = [{"class_path": "tests.faults.pace.Pace", "init_args": {"seconds": seconds}}] if seconds else []
    config = {**short_run(rows, policy, steps, callbacks), "checkpoint": {"every_n_train_steps": 2}}
    path = directory / f"fit-{steps}.yaml"
    path.write_text(yaml.safe_dump(config))
    return Job(f"fit-{seed}", directory / "jobs", "fit", (str(path),), {"data.seed": seed})


def command(*words: str) -> str:
    """What a command of SLURM's printed."""
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def wait_until(holds: Callable[[], Any]) -> None:
    """Fails where it never does."""
    end = time.monotonic() + 900  # SLURM takes its time, and a busy machine too
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


class Watch:
    """Takes the lines of a crew, and does something at the first one that holds a word.

    Args:
        word: e.g. RUNNING.
        do: with the number of SLURM's job.
    """

    def __init__(self, word: str = "", do: Callable[[str], Any] | None = None) -> None:
        self.word, self.do = word, do
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        found = re.search(r"SLURM job (\d+) is (\w+)", line)
        if found and self.do and self.word in line:
            do, self.do = self.do, None
            do(found[1])

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def run(jobs: Sequence[Job], watch: Watch, **changes: Any) -> None:
    """Run jobs through SLURM."""
    run_jobs(jobs, None, watch, slurm=settings(**changes))


def submissions(job: Job) -> list[str]:
    """Numbers of SLURM's jobs that one of ours was submitted as."""
    return sorted(path.name.split("_")[0] for path in (job.folder / "slurm").glob("*_submission.sh"))
