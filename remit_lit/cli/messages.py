"""What a failed command says of a user's mistake."""

import errno
import importlib.metadata
import os
import re
from collections.abc import Sequence

from omegaconf.errors import OmegaConfBaseException
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from remit_lit.cli.given import located, read_sources
from remit_lit.cli.parser import NOISE, causes
from remit_lit.errors import ConfigError, DataError, NonFiniteError
from remit_lit.verbs import VERBS

_USER_ERRORS = (ConfigError, DataError, NonFiniteError)
# Of a disk.
_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def explain(error: BaseException, verb: str, arguments: Sequence[str]) -> str | None:
    """The message for an error of the user's; None for one of the program's, which deserves a traceback.

    Args:
        error: that ended the command. A class that refuses its arguments does so inside jsonargparse, which wraps the
            error in its own, so the causes are looked through.
        verb: of the command.
        arguments: of the command line.
    """
    for cause in causes(error):
        if isinstance(cause, ModuleNotFoundError) and cause.name is not None:
            package = cause.name.split(".")[0]
            providing = extra_with(package, VERBS[verb].extra if verb in VERBS else "")
            if providing is not None:
                return f"{package} is not installed; pip install 'remit_lit[{providing}]'"
        if isinstance(cause, _USER_ERRORS):
            beside = cause.beside if isinstance(cause, ConfigError) else ""
            return located(_without_traceback(cause), read_sources(arguments, verb), beside)
        if str(cause).startswith("Does not validate against any of the Union subtypes"):
            return "\n".join(line.strip(" -") for line in str(cause).splitlines()[1:] if not NOISE.match(line))
        refusal = _refused_by_disk(cause)
        if refusal is not None:
            return f"{refusal}; make room, or give another folder"
        if isinstance(cause, OmegaConfBaseException):
            said = str(cause).splitlines()[0]
            return f"config: {cause.full_key}: {said} (an interpolation reaches only fields of its own file)"
    return None


def _refused_by_disk(error: BaseException) -> str | None:
    """What a full or read-only disk said, also through safetensors, which has the system's number in its text."""
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        return f"{error.filename or 'the disk'}: {os.strerror(error.errno)}"
    number = re.search(r"os error (\d+)", str(error)) if type(error).__name__ == "SafetensorError" else None
    return os.strerror(int(number[1])) if number and int(number[1]) in _REFUSALS else None


def extra_with(module: str, preferred: str) -> str | None:
    """An extra of this package that installs a module, by the package's own metadata; ``preferred`` if that does."""
    try:
        requirements = [Requirement(text) for text in importlib.metadata.requires("remit_lit") or []]
    except importlib.metadata.PackageNotFoundError:
        return None
    extras = importlib.metadata.metadata("remit_lit").get_all("Provides-Extra") or []
    providing = [
        extra
        for extra in extras
        for requirement in requirements
        if canonicalize_name(requirement.name) == canonicalize_name(module)
        and requirement.marker is not None
        and requirement.marker.evaluate({"extra": extra})
        and extra != "dev"
    ]
    return preferred if preferred in providing else next(iter(providing), None)


def _without_traceback(error: BaseException) -> str:
    """The message alone: torch hands on a loader process's error with the traceback of that process in front."""
    text = str(error)
    return text.rsplit(f"{type(error).__name__}: ", 1)[-1].strip() if text.startswith("Caught ") else text
