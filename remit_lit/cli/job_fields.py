"""The command lines of jobs, read before the first of them runs."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from remit_lit.cli.functions import function_parser
from remit_lit.cli.names import own_arguments, with_found_configs
from remit_lit.errors import ConfigError
from remit_lit.jobs.job import Job, with_inputs
from remit_lit.verbs import VERBS


def check_fields(jobs: Sequence[Job]) -> None:
    """Read the fields of one job of each kind that is not done, as it will read them itself, of inputs too.

    Raises:
        ConfigError: one would refuse them; names the job.
    """
    kinds: dict[tuple[str, str], Job] = {}
    for job in with_inputs(jobs):
        if job.state != "done" and (job.verb == "fit" or not VERBS[job.verb].parses):
            kinds.setdefault((job.verb, job.kind), job)
    parsers: dict[str, ArgumentParser] = {}
    for job in kinds.values():
        try:
            arguments = own_arguments(job.verb, with_found_configs(job.arguments[1:]))
            if job.verb in parsers:
                parsers[job.verb].parse_args(arguments)
            elif job.verb == "fit":
                from remit_lit.cli.unrun import read_fields  # only here: it imports all that trains

                if (reader := read_fields(arguments)) is not None:
                    parsers[job.verb] = reader.parser
            else:
                parsers[job.verb] = function_parser(job.verb)
                parsers[job.verb].parse_args(arguments)
        except ConfigError as error:
            raise ConfigError(f"{job.name}: {error}") from error
