"""What a cluster is asked for: resources by verb, and how long jobs are tried."""

from dataclasses import dataclass, field, fields

from remit_lit.errors import ConfigError, not_among, require_at_least
from remit_lit.verbs import VERBS

_KEPT = [name for name, verb in VERBS.items() if verb.output]


@dataclass
class Resources:
    """What a job asks SLURM for; null leaves it to the cluster.

    Attributes:
        partition: where it waits.
        nodes: number of nodes.
        gpus: of each node.
        tasks: processes on each node; null: of verbs that run on several GPUs (fit, score) as many as GPUs, else one.
            ``trainer.devices`` of a fit, or ``devices`` of a score, must be the same number, and its ``num_nodes`` that
            of the nodes. Each process of a ``prepare`` tokenizes with ``num_workers`` of its own.
        cpus: of each process.
        memory: of each node, in GB.
        minutes: time limit. A fit is warned of it, saves and goes back into the queue; other verbs must end in time.
        options: further options of sbatch by their long names, e.g. {account: physics, constraint: h100}.
    """

    partition: str | None = None
    nodes: int | None = None
    gpus: int | None = None
    tasks: int | None = None
    cpus: int | None = None
    memory: float | None = None
    minutes: int | None = None
    options: dict[str, str] = field(default_factory=dict)

    def check(self, name: str) -> None:
        """Refuse numbers that cannot be; ``name`` is that of the section."""
        for part in ("nodes", "tasks", "cpus", "minutes"):
            require_at_least(f"{name}.{part}", getattr(self, part), 1, or_null=True)
        require_at_least(f"{name}.gpus", self.gpus, 0, or_null=True)


@dataclass
class SlurmSettings(Resources):
    """What jobs ask SLURM for, and how they are watched.

    Attributes:
        verbs: what jobs of a verb ask for instead, e.g. {fit: {gpus: 8, minutes: 1440}}.
        setup: lines of shell before the command, e.g. ["module load cuda"]. Jobs have the environment, the directory
            and the Python of the command that submits them.
        warning_seconds: a fit is told so long before its time limit that it has to save.
        tries: a job that ends so many times without saying why (killed, out of time) has failed.
        requeues: a fit that was warned goes back into the queue so often.
        poll_seconds: how often the queue is read.
    """

    verbs: dict[str, Resources] = field(default_factory=dict)
    setup: list[str] = field(default_factory=list)
    warning_seconds: int = 120
    tries: int = 3
    requeues: int = 100
    poll_seconds: float = 10.0

    def check_all(self) -> None:
        """Refuse what cannot be asked for.

        Raises:
            ConfigError: naming the field, what it got and what would be right.
        """
        self.check("slurm")
        for verb, resources in self.verbs.items():
            if verb not in _KEPT:
                raise ConfigError(f"slurm.verbs: {not_among(verb, _KEPT)}")
            resources.check(f"slurm.verbs.{verb}")
            if not VERBS[verb].ranks and (resources.tasks or 1) * (resources.nodes or 1) > 1:
                several = ", ".join(name for name in VERBS if VERBS[name].ranks)
                raise ConfigError(
                    f"slurm.verbs.{verb}.tasks: got {resources.tasks or 1} on {resources.nodes or 1} nodes; give 1 on "
                    f"one, for only {several} run in several processes"
                )
        for name, least in {"warning_seconds": 1, "tries": 1, "requeues": 0, "poll_seconds": 0.1}.items():
            require_at_least(f"slurm.{name}", getattr(self, name), least)

    def of(self, verb: str) -> Resources:
        """What a job of a verb asks for."""
        own = self.verbs.get(verb, Resources())
        asked = Resources()
        for part in (part.name for part in fields(Resources)):
            setattr(asked, part, getattr(self, part) if getattr(own, part) is None else getattr(own, part))
        asked.options = {**self.options, **own.options}
        if not VERBS[verb].ranks:
            asked.nodes, asked.tasks = 1, 1
        asked.tasks = asked.tasks or (asked.gpus if VERBS[verb].ranks == "gpus" else None) or 1
        return asked
