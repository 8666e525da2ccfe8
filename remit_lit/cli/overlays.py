"""What to say of config files that are laid over an experiment, where a command line gives none."""

from collections.abc import Sequence
from pathlib import Path

from remit_lit.cli.given import COMMAND_LINE, Source
from remit_lit.configs import config_names

_OF_EXPERIMENTS = "data.rows"
"""A field without a default that no overlay sets."""


def experiment_wanted(missing: str, sources: Sequence[Source]) -> str:
    """A line that names the experiment to give before the files of a command line; empty where they hold one.

    Args:
        missing: the message about the fields that are missing.
        sources: of the command line.
    """
    files = list(dict.fromkeys(source.name for source in sources if source.name != COMMAND_LINE))
    names = missing.partition(": missing;")[0].split(", ")
    if not files or _OF_EXPERIMENTS not in names:
        return ""
    what = "is an overlay" if len(files) == 1 else "are overlays"
    return (
        f"\n{', '.join(files)} {what}: laid over an experiment, which comes first; "
        f"give --config={_experiment_of(files[0])} before"
    )


def _experiment_of(overlay: str) -> str:
    """The shipped experiment with the name of an overlay, as of a model's shape; else the smallest one."""
    named = f"experiments/{Path(overlay).name}"
    return named if named in config_names() else "quickstart"
