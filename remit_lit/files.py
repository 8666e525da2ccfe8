"""Folders that are built once, and again when their recipe changes."""

import fcntl
import glob
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from remit_lit.errors import ConfigError

RECIPE_FILE = "recipe.json"


def build_once(folder: Path, recipe: Mapping[str, object], build: Callable[[Path], None]) -> Path:
    """Return `folder`, calling `build(empty_folder)` first unless it was built from an equal recipe.

    The recipe (JSON values: source checksums, settings, seeds) is saved inside as `recipe.json`. The build happens in
    a neighbouring folder that is renamed at the end, so an interrupted build is never taken for a finished one; and
    where two processes ask for it at once, the second waits for the first.
    """
    wanted = json.dumps(recipe, indent=2, sort_keys=True)
    saved = folder / RECIPE_FILE
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if saved.is_file() and saved.read_text() == wanted:
            return folder
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        build(partial)
        (partial / RECIPE_FILE).write_text(wanted)
        shutil.rmtree(folder, ignore_errors=True)
        return partial.replace(folder)


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


def flatten(value: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """The leaves of nested dictionaries by their dotted names."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from flatten(inner, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, value
