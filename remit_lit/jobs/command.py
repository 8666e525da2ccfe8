"""One command as a job of SLURM's, whose result goes where its own fields say."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from remit_lit.jobs.cluster import SlurmSettings
from remit_lit.jobs.job import Job
from remit_lit.jobs.result import Notes
from remit_lit.jobs.scheduler import run_jobs
from remit_lit.jobs.slurm import states
from remit_lit.jobs.slurm_queue import require_slurm

FOLDER = Path("runs/slurm")
"""Where the logs of such commands lie."""


@dataclass(frozen=True, eq=False)
class Command(Job):
    """A job that a person asked for: its words decide it, and whether its result may be written the verb decides.

    Attributes:
        words: of the command line, after the verb.
        directory: that it is given in.
    """

    words: tuple[str, ...] = ()
    directory: str = ""

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """What tells it from other commands."""
        return {"verb": self.verb, "words": self.words, "directory": self.directory}

    @property
    def arguments(self) -> list[str]:
        """The command line after ``python -m remit_lit``."""
        return [self.verb, *self.words]

    @property
    def lack(self) -> str | None:
        """Nothing: its exit code says whether it did its work."""
        return None

    def _noted(self) -> Notes:
        return {}


def run_on_cluster(verb: str, words: Sequence[str], slurm: SlurmSettings) -> None:
    """Have SLURM run a command, and print its log once it ends. One that is in the queue is waited for.

    Args:
        verb: of ``python -m remit_lit``.
        words: what follows it.
        slurm: what the cluster is asked for.

    Raises:
        ConfigError: there is no cluster here, or it refuses the job.
        SystemExit: the command failed.
    """
    slurm.check_all()
    require_slurm()
    job = Command(verb, FOLDER, verb, words=tuple(words), directory=str(Path.cwd()), kind=verb)
    if not states([job]):
        job.forget()
    print(f"{verb}: its log is {job.log}")
    before = job.log.stat().st_size if job.log.exists() else 0
    run_jobs([job], 1, slurm=slurm)
    printed = job.log.read_bytes()[before:].decode(errors="replace").splitlines()
    print("\n".join(line for line in printed if not line.startswith("submitit ")))
    if job.state != "done":
        raise SystemExit(1)
