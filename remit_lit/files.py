"""Files and directories that are there as a whole or not at all, and folders that are built once."""

import difflib
import errno
import fcntl
import glob
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from remit_lit.errors import ConfigError, DataError

RECIPE_FILE = "recipe.json"
_SUFFIXES = (".bin", ".ckpt", ".csv", ".gguf", ".json", ".jsonl", ".parquet", ".pt", ".safetensors", ".txt", ".yaml")


def is_meant_as_path(text: str) -> bool:
    """Whether a text that may name a place on a hub (``owner/name``) names one on this machine instead."""
    return (
        text.startswith((".", "/", "~"))
        or text.count("/") > 1
        or text.endswith(_SUFFIXES)
        or ("/" in text and Path(text).parent.is_dir())
    )


def near_path(text: str) -> str:
    """For the message on a path where nothing is: the one beside it that comes nearest, as a question, or nothing."""
    if text.startswith("~"):
        return f"did you mean {Path(text).expanduser()}? "
    if url := re.fullmatch(r"(\w+):/([^/].*)", text):
        return f"did you mean {url[1]}://{url[2]}? "
    path = Path(text)
    missing = next((each for each in (path, *path.parents) if each.parent.is_dir()), path)
    if missing.exists():
        return ""
    beside = [other.name for other in missing.parent.iterdir()] if missing.parent.is_dir() else []
    near = difflib.get_close_matches(missing.name, beside, n=1)
    return f"did you mean {missing.parent / near[0]}? " if near else ""


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file aside, sync it and rename it into place: whatever ends the writer leaves the old or the new one.

    Raises:
        OSError: the disk refuses it; the old file is whole, and nothing is left aside.
    """
    aside = _aside(path)
    try:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)
        sync(aside)
        aside.replace(path)
        sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def full_disk_named(what: str, then: str) -> Iterator[None]:
    """Within, a full disk, also one that a library's error hides, is a DataError: what was not written, what to do."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not (isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)):
            cause = cause.__cause__
        if not isinstance(cause, OSError):
            raise
        raise DataError(f"{what}: no space left ({cause.strerror}); {then}") from error


@contextmanager
def replaced(directory: Path) -> Iterator[Path]:
    """An empty directory to write in, which takes the place of ``directory`` when the context ends without an error."""
    with scratch_beside(directory) as aside:
        yield aside
        put_in_place(aside, directory)


@contextmanager
def scratch_beside(path: Path, recipe: Mapping[str, object] | None = None, *, alone: bool = False) -> Iterator[Path]:
    """A directory on the disk of ``path``, removed when the context ends.

    It is empty but for what a process that died left in one of an equal recipe, which is taken over. Others of
    processes that died are removed.

    Args:
        path: what is to be written in the end.
        recipe: JSON values that decide all that is written in the directory; None takes nothing over.
        alone: whether the caller holds a lock on ``path`` that counts on all machines. Only then are those of other
            machines, which have a recipe, known to be of processes that died.
    """
    make_directory(path.parent)
    scratch = _aside(path)
    wanted = json.dumps({"of": path.name, **(recipe or {})}, indent=2, sort_keys=True)
    for stale in _stale(path, of_all_machines=alone):
        if recipe is not None and not scratch.exists() and _recipe(stale) == json.loads(wanted):
            stale.rename(scratch)
        else:
            shutil.rmtree(stale, ignore_errors=True)
    scratch.mkdir(exist_ok=True)
    try:
        if recipe is not None:
            write_whole(scratch / RECIPE_FILE, wanted)
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _stale(path: Path, *, of_all_machines: bool) -> Iterator[Path]:
    """Directories beside ``path`` of processes that died."""
    here = f".{path.name}.{socket.gethostname()}."
    for aside in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if aside.name.startswith(here):
            if not _is_alive(aside):
                yield aside
        elif of_all_machines and _recipe(aside).get("of") == path.name:
            yield aside


def _recipe(aside: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((aside / RECIPE_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found


def put_in_place(aside: Path, directory: Path) -> None:
    """Sync a directory that was written aside and rename it to ``directory``; what was there before is removed."""
    sync_all(aside)
    # Renamed before it is removed: half removed, it must not be taken for a whole one.
    old = aside.with_name(f"{aside.name}.old")
    shutil.rmtree(old, ignore_errors=True)  # of a checkpoint, whose place aside has a fixed name
    if directory.exists():
        directory.rename(old)
    aside.rename(directory)
    sync(directory.parent)
    shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Wait until a file, or a directory's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(directory: Path) -> None:
    """Wait until a directory and everything below it are on the disk."""
    for path in (*directory.rglob("*"), directory):
        sync(path)


def sync_files(directory: Path) -> None:
    """Wait until the files in a directory, and its list of names, are on the disk; what is below it is left out."""
    for path in directory.iterdir():
        if path.is_file():
            sync(path)
    sync(directory)


def make_directory(path: Path) -> None:
    """Make a directory and those above it, unless they are there, so that a power cut does not take them back."""
    made = [directory for directory in (path, *path.parents) if not directory.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for directory in made:
        sync(directory.parent)


def _aside(path: Path) -> Path:
    # A name of its own for each writer: threads of one process must not share one.
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}")


def _is_alive(aside: Path) -> bool:
    """Whether the process that writes aside here still runs."""
    try:
        os.kill(int(aside.name.removesuffix(".old").split(".")[-2]), 0)
    except (ValueError, IndexError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def build_once(folder: Path, recipe: Mapping[str, object], build: Callable[[Path], None]) -> Path:
    """Return `folder`, calling `build(empty_folder)` first unless it was built from an equal recipe.

    The recipe (JSON values: source checksums, settings, seeds) is saved inside as `recipe.json`. An interrupted build
    is never taken for a finished one, and where two processes ask for a folder at once, the second waits for the first.
    """
    wanted = json.dumps(recipe, indent=2, sort_keys=True)
    saved = folder / RECIPE_FILE
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if saved.is_file() and saved.read_text() == wanted:
            return folder
        with replaced(folder) as empty:
            build(empty)
            (empty / RECIPE_FILE).write_text(wanted)
        return folder


def matching_files(files: str | list[str]) -> list[str]:
    """The regular files that paths or shell patterns name, each pattern's in order and each file once.

    Raises:
        ConfigError: a pattern matches none; a path is a directory, a link to nothing or no regular file; or two entries
            name the same file.
    """
    found: dict[Path, tuple[str, int]] = {}  # by where a file really is: its path, and the entry that named it
    entries = [files] if isinstance(files, str) else files
    for index, entry in enumerate(entries):
        matches = [path for path in glob.glob(entry, recursive=True) if not Path(path).is_dir()]
        if not matches and Path(entry).is_dir():
            raise ConfigError(f"files: {entry} is a directory; give {Path(entry, '*')}, a pattern of its files")
        if not matches:
            near = "" if glob.has_magic(entry) else near_path(entry)
            raise ConfigError(f"files: nothing matches {entry!r} in {Path.cwd()}; {near}give paths or glob patterns")
        # Through links, such as a loop of directories, one entry finds a file again: it is one, by its shortest path.
        each: dict[Path, str] = {}
        for path in sorted(matches, key=lambda path: (len(path), path)):
            _require_regular(Path(path))
            each.setdefault(Path(path).resolve(), path)
        for file, path in sorted(each.items(), key=lambda item: item[1]):
            first, by = found.setdefault(file, (path, index))
            if by != index:
                raise ConfigError(
                    f"files: {first} is named twice, by {entries[by]!r} and by {entry!r}; name each file once"
                )
    return [path for path, _ in found.values()]


def _require_regular(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise ConfigError(f"files: {path} is a link to {path.readlink()}, which is not there; restore or remove it")
    if not path.is_file():
        raise ConfigError(f"files: {path} is not a regular file (a pipe, socket or device); give a file")


def flatten(value: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """The leaves of nested dictionaries by their dotted names."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from flatten(inner, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, value
