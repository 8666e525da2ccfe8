"""``--launcher``: a command that a cluster runs, or whose jobs it runs."""

from collections.abc import Sequence
from typing import Literal

from jsonargparse import Namespace

from remit_lit.cli.parser import Parser
from remit_lit.jobs.cluster import SlurmSettings


def add_launcher(parser: Parser, what: str, *, ray: bool = False) -> None:
    """The fields ``launcher`` and ``slurm``; ``what`` says what is launched, and ``ray`` whether Ray can, too."""
    words = f"what runs {what}: processes of this machine, or a cluster by SLURM, as the section slurm says"
    if ray:
        words += ", or tasks of the Ray cluster that is here or that RAY_ADDRESS names, num_workers at once"
    choices = Literal["local", "slurm", "ray"] if ray else Literal["local", "slurm"]
    parser.add_argument("--launcher", type=choices, default="local", help=words)
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
    if launcher != "slurm":
        return False
    from remit_lit.jobs.command import run_on_cluster

    run_on_cluster(verb, [*arguments, "--launcher=local"], slurm)
    return True
