"""A checkpoint on disk: a directory that is there as a whole or not at all, and says what belongs in it."""

import json
import re
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from remit_lit.errors import ConfigError, DataError
from remit_lit.files import make_directory, put_in_place, sync
from remit_lit.runs.folder import warn

LAST = "last.ckpt"
_MANIFEST = "manifest.json"
# What a manifest must name.
_FACTS = ("engine", "files")
_NAME = re.compile(r"step-(\d{8})$")
_PIECE_BYTES = 2**24


def checkpoint_path(checkpoints: str | Path, step: int) -> Path:
    """Where the checkpoint after ``step`` optimizer steps lies."""
    return Path(checkpoints, f"step-{step:08d}")


def step_of(path: Path) -> int:
    """Optimizer steps before the checkpoint at ``path``."""
    match = _NAME.search(path.name)
    assert match is not None
    return int(match[1])


def all_checkpoints(checkpoints: str | Path) -> list[Path]:
    """The checkpoints that were written as a whole, oldest first."""
    return sorted(path for path in Path(checkpoints).glob("step-*") if _NAME.match(path.name))


def aside_of(path: Path) -> Path:
    """Where the files of a checkpoint are written before they are complete."""
    return path.with_name(f".{path.name}.partial")


def begin(path: Path) -> Path:
    """An empty directory aside, to write the checkpoint's files in."""
    aside = aside_of(path)
    shutil.rmtree(aside, ignore_errors=True)
    make_directory(path.parent)
    aside.mkdir()
    return aside


def finish(path: Path, facts: dict[str, Any]) -> None:
    """Describe the files aside, rename them into place, and point ``last.ckpt`` to them.

    Args:
        path: of the checkpoint.
        facts: of the run at this step, kept in the manifest.
    """
    aside = aside_of(path)
    files = {str(file.relative_to(aside)): _facts_of(file) for file in _files(aside)}
    (aside / _MANIFEST).write_text(json.dumps({**facts, "files": files}, indent=2) + "\n")
    put_in_place(aside, path)
    link = path.with_name(LAST)
    new = link.with_name(f".{LAST}")
    new.unlink(missing_ok=True)
    new.symlink_to(path.name)
    new.replace(link)
    sync(path.parent)


def discard(path: Path) -> None:
    """Remove what was written aside."""
    shutil.rmtree(aside_of(path), ignore_errors=True)


def read_facts(path: str | Path) -> dict[str, Any]:
    """The manifest of a checkpoint: facts of the run at its step, and its files.

    Raises:
        ConfigError: there is no checkpoint.
        DataError: the manifest is damaged.
    """
    if not Path(path, _MANIFEST).is_file():
        raise ConfigError(f"checkpoint: {path} is not a checkpoint directory (it has no {_MANIFEST})")
    try:
        facts: Any = json.loads(Path(path, _MANIFEST).read_text())
    except ValueError as error:
        raise DataError(f"checkpoint: {path}/{_MANIFEST} is damaged ({error}); give an earlier checkpoint") from error
    lacking = [name for name in _FACTS if not isinstance(facts, dict) or not facts.get(name)]
    if lacking or not isinstance(facts["files"], dict):
        raise DataError(
            f"checkpoint: {path}/{_MANIFEST} is damaged (it names no {lacking[0] if lacking else 'files'}); give an "
            "earlier checkpoint"
        )
    return facts


def verify(path: str | Path) -> dict[str, Any]:
    """Compare every file with its size and checksum, and return the manifest.

    Raises:
        ConfigError: there is no checkpoint.
        DataError: a file is missing or differs.
    """
    facts = read_facts(path)
    for name, expected in facts["files"].items():
        file = Path(path, name)
        if not file.is_file() or _facts_of(file) != expected:
            how = "damaged" if file.is_file() else "missing"
            raise DataError(f"checkpoint: {path} cannot be trusted, {name} is {how}; give an earlier checkpoint")
    return facts


def newest(checkpoints: str | Path) -> Path | None:
    """The newest undamaged checkpoint; warns of damaged ones after it. None where there is none at all.

    Raises:
        DataError: there are some, and all are damaged.
    """
    existing = all_checkpoints(checkpoints)
    for path in reversed(existing):
        try:
            verify(path)
        except (ConfigError, DataError) as error:
            warn(f"{error}; trying the one before it")
        else:
            return path
    if existing:
        raise DataError(f"checkpoint: all {len(existing)} checkpoints in {checkpoints} are damaged")
    return None


def lack_of_room(checkpoints: str | Path) -> str | None:
    """Why one more checkpoint as large as the newest does not fit on the disk; None if it does, or there is none yet.

    Checked beforehand: once one of several ranks has failed to write its shard, the others cannot go on.
    """
    existing = all_checkpoints(checkpoints)
    if not existing:
        return None
    needed = sum(file.stat().st_size for file in _files(existing[-1]))
    free = shutil.disk_usage(checkpoints).free
    return None if free > needed else f"it takes {needed / 1e6:,.0f} MB, and the disk has {free / 1e6:,.0f} MB free"


def prune(checkpoints: str | Path, keep_last: int | None, keep_every: int | None) -> None:
    """Remove all but the newest ``keep_last`` checkpoints and those whose step is a multiple of ``keep_every``."""
    if keep_last is None:
        return
    for path in all_checkpoints(checkpoints)[:-keep_last]:
        if keep_every is None or step_of(path) % keep_every:
            # Renamed first: half removed, it must not be taken for a checkpoint.
            gone = path.rename(path.with_name(f".{path.name}.removed"))
            shutil.rmtree(gone, ignore_errors=True)


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file())


def _facts_of(file: Path) -> dict[str, int]:
    checksum = 0
    with open(file, "rb") as stream:
        while piece := stream.read(_PIECE_BYTES):
            checksum = zlib.crc32(piece, checksum)
    return {"bytes": file.stat().st_size, "crc32": checksum}
