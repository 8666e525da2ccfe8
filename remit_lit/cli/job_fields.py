"""The command lines of jobs, read before the first of them runs."""

from collections.abc import Sequence

from remit_lit.cli.names import own_arguments, with_found_configs
from remit_lit.errors import ConfigError
from remit_lit.jobs.job import Job, with_inputs


def check_fields(jobs: Sequence[Job]) -> None:
    """Read the fields of one ``fit`` of each kind that is not done, as it will read them itself, of inputs too.

    Raises:
        ConfigError: one would refuse them; names the job.
    """
    missing = [job for job in with_inputs(jobs) if job.verb == "fit" and job.state != "done"]
    if not missing:
        return
    from remit_lit.cli.unrun import read_fields  # only here: it imports all that trains

    kinds: dict[str, Job] = {}
    for job in missing:
        kinds.setdefault(job.kind, job)
    reader = None
    for job in kinds.values():
        try:
            arguments = own_arguments(job.verb, with_found_configs(job.arguments[1:]))
            if reader is None:
                reader = read_fields(arguments)
            else:
                reader.parser.parse_args(arguments)
        except ConfigError as error:
            raise ConfigError(f"{job.name}: {error}") from error
