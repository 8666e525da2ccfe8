"""Where a model or tokenizer is: embedded in the package, in a local directory, or on a hub; and files by pattern."""

import glob
import re
from pathlib import Path

from remit_lit.errors import ConfigError

_EMBEDDED = "lab/"


def matching_files(files: str | list[str]) -> list[str]:
    """The files that paths or shell patterns name, each pattern's in order.

    Raises:
        ConfigError: a pattern matches none.
    """
    paths = []
    for pattern in [files] if isinstance(files, str) else files:
        found = sorted(glob.glob(pattern, recursive=True))
        if not found:
            raise ConfigError(f"files: nothing matches {pattern!r} from {Path.cwd()}; give paths or glob patterns")
        paths += found
    return paths


def resolve(path: str) -> str:
    """The directory of an embedded name (``lab/base``, ``lab/bytes``, ...); any other path as it is."""
    from remit_lit.lab import asset_path

    return str(asset_path(path.removeprefix(_EMBEDDED))) if path.startswith(_EMBEDDED) else path


def check_model_path(field: str, path: str) -> None:
    """Refuse what is neither a directory with a model nor the form of a hub id, without asking a hub.

    Raises:
        ConfigError: naming ``field``.
    """
    directory = Path(resolve(path))
    if directory.is_dir():
        if not (directory / "config.json").exists():
            raise ConfigError(f"{field}.path: directory {path!r} is no model: it has no config.json")
    elif not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", path):
        raise ConfigError(f"{field}.path: no directory {path!r}, and it is no hub id (owner/name)")
