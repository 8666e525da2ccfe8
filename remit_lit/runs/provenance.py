"""Where numbers come from: the command, the versions and the revision that made them."""

import datetime
import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from remit_lit import __version__


def provenance(packages: Iterable[str]) -> dict[str, Any]:
    """Command, versions of Python, this package and ``packages``, and the git revision of the working directory."""
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {
        "command": _command(),
        "versions": {"remit_lit": __version__, "python": platform.python_version(), **versions},
        "git_revision": _git_revision(),
    }


def _command() -> list[str]:
    """What was typed, without where Python and this package lie."""
    program = Path(sys.argv[0])
    typed = ["python", "-m", program.parent.name] if program.name == "__main__.py" else [program.name]
    return [*typed, *sys.argv[1:]]


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _git_revision() -> str | None:
    """The revision of the working directory's repository, with ``-dirty`` where files differ; None outside one."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
