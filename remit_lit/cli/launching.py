"""``--launcher slurm``: a command that SLURM runs, or whose jobs it runs."""

from collections.abc import Sequence
from typing import Literal

from jsonargparse import Namespace

from remit_lit.cli.parser import Parser
from remit_lit.jobs.cluster import SlurmSettings


def add_launcher(parser: Parser, what: str) -> None:
    """The fields ``launcher`` and ``slurm``; ``what`` says what is launched."""
    words = f"what runs {what}: processes of this machine, or a cluster by SLURM, as the section slurm says"
    parser.add_argument("--launcher", type=Literal["local", "slurm"], default="local", help=words)
    parser.add_class_arguments(SlurmSettings, "slurm")


def launched(verb: str, arguments: Sequence[str], values: Namespace) -> bool:
    """Whether SLURM was asked to run the command and has; the fields of :func:`add_launcher` are taken away.

    Args:
        verb: of the command.
        arguments: the command line after it.
        values: its fields, built.

    Raises:
        ConfigError: there is no cluster here, or it refuses the job.
        SystemExit: the command failed there.
    """
    launcher, slurm = values.pop("launcher"), values.pop("slurm")
    if launcher == "local":
        return False
    from remit_lit.jobs.command import run_on_cluster

    run_on_cluster(verb, [*arguments, "--launcher=local"], slurm)
    return True
