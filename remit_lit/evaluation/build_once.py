"""Folders that are built once, and again when their recipe changes."""

import fcntl
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

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
