"""What a string in a config stands for: a file's contents, those of a model or of prepared rows, or the user's code."""

import glob
import importlib.util
import re
import sysconfig
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from remit_lit.errors import ConfigError
from remit_lit.jobs.fields import strings
from remit_lit.models.fingerprint import files_fingerprint
from remit_lit.models.locations import resolve
from remit_lit.runs.folder import MODEL

_MANIFEST = "manifest.json"
_INSTALLED = tuple(str(Path(path).resolve()) for path in set(sysconfig.get_paths().values()))


def contents_of(fields: Mapping[str, Any]) -> dict[str, str]:
    """Fingerprints of all that the strings in ``fields`` name, by what names it.

    Of rows, the score columns and subsets that ``fields`` name count too.
    """
    named = sorted(set(strings(fields)))
    found = {text: digest for text in named if (digest := _fingerprint(text)) is not None}
    for text in [text for text in found if Path(text, _MANIFEST).is_file()]:
        for facts in (*Path(text).glob("*/*/*/column.json"), *Path(text).glob("*/*/*/subset.json")):
            if facts.parent.name in named:
                found[f"{text}: {facts.parent.name}"] = files_fingerprint([facts])
    return found


def fingerprint(text: str) -> str | None:
    """Hash of what lies at a path or shell pattern, or of the code at a dotted path; None where there is nothing.

    Rows and checkpoints count by their manifest, which has their fingerprints, and a run's folder by its model. Code
    counts where it is the user's: installed packages have versions.
    """
    try:
        path = Path(resolve(text))
        if (path / _MANIFEST).is_file():
            return files_fingerprint([path / _MANIFEST])
        for model in (path, path / MODEL):
            if (model / "config.json").is_file():
                return files_fingerprint(sorted(file for file in model.iterdir() if file.is_file()))
        files = [file for name in sorted(glob.glob(text)) if (file := Path(name)).is_file()]
    except (ConfigError, OSError, ValueError):  # no embedded model; too long for a path, or with a null character
        return None
    files = files or _code(text)
    return files_fingerprint(files) if files else None


_fingerprint = cache(fingerprint)


def _code(text: str) -> list[Path]:
    """The module that a dotted path begins with, or all of its package, where it is not installed."""
    package = text.split(".")[0]
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", text) or package == "remit_lit":
        return []
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None or not spec.has_location:
        return []
    origin = Path(spec.origin).resolve()
    if str(origin).startswith(_INSTALLED):
        return []
    return sorted(origin.parent.rglob("*.py")) if spec.submodule_search_locations else [origin]
