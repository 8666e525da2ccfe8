"""Copies of files of an object storage on a local disk, within a bound."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from remit_lit.errors import ConfigError
from remit_lit.files import full_disk_named, make_directory

FOLDER, GIGABYTES = "REMIT_LIT_CACHE", "REMIT_LIT_CACHE_GB"
"""Environment variables of the folder and of the bound."""
_DEFAULTS = {FOLDER: "~/.cache/remit_lit", GIGABYTES: "200"}
_GRACE = 60.0  # seconds in which a copy that was asked for is opened; until then it is not removed


@dataclass(frozen=True)
class FileCache:
    """A folder of copies; the least recently used are removed for new ones. Processes of a machine share it.

    Attributes:
        folder: made when the first copy is.
        max_bytes: of all copies together. One that was just asked for stays, whatever its size, and the system keeps
            one that is open until it is closed.
    """

    folder: Path
    max_bytes: int

    @classmethod
    def of_environment(cls) -> "FileCache":
        """As ``REMIT_LIT_CACHE`` and ``REMIT_LIT_CACHE_GB`` say.

        Raises:
            ConfigError: the bound is no number above 0.
        """
        folder, gigabytes = (os.environ.get(name) or default for name, default in _DEFAULTS.items())
        try:
            max_bytes = int(float(gigabytes) * 1e9)
        except (ValueError, OverflowError):
            max_bytes = 0
        if max_bytes <= 0:
            raise ConfigError(f"{GIGABYTES}: got {gigabytes!r}; give a number of gigabytes above 0")
        return cls(Path(folder).expanduser(), max_bytes)

    def copy(self, name: str, size: int, fetch: Callable[[Path], None]) -> Path:
        """The copy of this name, fetched first unless it is there; of processes that ask at once, one fetches.

        Args:
            name: of the content: other contents must have other names.
            size: bytes of it, for which room is made.
            fetch: writes them to the path that it is given.

        Raises:
            ConfigError: the folder cannot be written.
            DataError: the disk is full.
        """
        path = self.folder / name
        with self._held(name):
            if not path.exists():
                self._make_room(size)
                aside = path.with_name(f".{name}.part")
                then = f"make room, or lower {GIGABYTES}"
                with full_disk_named(f"{FOLDER}: cannot copy {name} to {self.folder}", then):
                    try:
                        fetch(aside)
                        aside.replace(path)
                    finally:
                        aside.unlink(missing_ok=True)
            os.utime(path)
        return path

    @contextmanager
    def _held(self, name: str) -> Iterator[None]:
        """While one process is within, others wait."""
        try:
            make_directory(self.folder)
            lock = os.open(self.folder / f".{name}.lock", os.O_CREAT | os.O_WRONLY)
        except OSError as error:
            raise ConfigError(
                f"{FOLDER}: {self.folder} cannot be written ({error.strerror}); name another folder by it"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _make_room(self, size: int) -> None:
        copies = [(entry.stat(), entry) for entry in os.scandir(self.folder) if not entry.name.startswith(".")]
        excess = sum(stat.st_size for stat, _ in copies) + size - self.max_bytes
        before = time.time() - _GRACE
        for stat, entry in sorted(copies, key=lambda copy: copy[0].st_mtime):
            if excess <= 0 or stat.st_mtime > before:
                return
            Path(entry.path).unlink(missing_ok=True)
            excess -= stat.st_size
