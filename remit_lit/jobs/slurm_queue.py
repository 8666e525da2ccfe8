"""Which jobs SLURM knows of: what it says itself, so that there is no second account that could be wrong."""

import os
import shutil
import subprocess
from dataclasses import dataclass

from remit_lit.errors import ConfigError

_OVER = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
)


@dataclass(frozen=True)
class Queued:
    """A job of SLURM's.

    Attributes:
        number: SLURM's.
        state: in SLURM's word, e.g. PENDING.
        reason: in brackets why it waits or how it ended, or the nodes that it runs on.
    """

    number: int
    state: str
    reason: str

    @property
    def is_over(self) -> bool:
        """Whether it has left the queue."""
        return self.state in _OVER

    def __str__(self) -> str:
        reason = "" if self.reason in ("", "None", "(None)") else f" {self.reason}"
        return f"SLURM job {self.number} is {self.state}{reason}"


def require_slurm() -> None:
    """Raise ConfigError where SLURM's commands are missing."""
    missing = [command for command in ("sbatch", "squeue") if shutil.which(command) is None]
    if missing:
        raise ConfigError(
            f"launcher: got 'slurm', but there is no {missing[0]} on PATH; run the command on a machine that submits "
            "jobs, or give --launcher=local"
        )


def read_queue() -> dict[str, Queued] | None:
    """This user's jobs by the comments that they were submitted with, of each the latest; None where SLURM is silent.

    Those that ended are among them for as long as SLURM keeps them (``MinJobAge``, by default five minutes).
    """
    # %R is a pending job's reason and a running one's nodes; the comment, which may hold anything, comes last.
    command = ["squeue", f"--user={os.getuid()}", "--noheader", "--states=all", "--format=%A|%T|%R|%k"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    queue: dict[str, Queued] = {}
    for line in asked.stdout.splitlines():
        number, state, reason, comment = line.split("|", 3)
        if comment not in queue or int(number) > queue[comment].number:
            queue[comment] = Queued(int(number), state, reason)
    return queue
