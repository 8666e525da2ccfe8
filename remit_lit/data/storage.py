"""Where rows and columns lie: on a disk, or by URL on an object storage, from which files are copied when first read.

Disks give ``pathlib.Path``, URLs the ``UPath`` of universal-pathlib, which has the same methods for all that fsspec
reads: ``s3://``, ``gs://``, ``hf://`` and more. Credentials and endpoints are fsspec's matter.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from remit_lit.data.file_cache import FileCache
from remit_lit.errors import ConfigError, DataError
from remit_lit.files import write_whole
from remit_lit.runs.folder import warn

_Answer = TypeVar("_Answer")
_WAITS: Sequence[float] = (1, 2, 4, 8)  # seconds before each further attempt; the clients try again by themselves too
_REFUSED = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")


def is_remote(path: str | Path) -> bool:
    """Whether this is a URL, or a path that :func:`located` made of one."""
    return "://" in str(path)


def located(root: str | Path, *names: str) -> Path:
    """A path below ``root``, a directory or a URL; of a URL it has the methods of ``Path``.

    Raises:
        ConfigError: nothing that is installed reads such a URL.
    """
    if not is_remote(root):
        return Path(root, *names)
    try:
        from upath import UPath

        # Listings are of now: other processes write too. A file system is not of use after a fork, so none is kept.
        path = UPath(str(root), use_listings_cache=False).joinpath(*names)
        _ = path.fs
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"rows: {root} cannot be read ({error}); `pip install 'remit_lit[s3]'` reads s3://, and its file system of "
            "fsspec another URL"
        ) from error
    return path  # type: ignore[return-value]


def local_copy(path: Path) -> Path:
    """A local file of the same content: the file itself, or a copy of the object as it is now.

    Raises:
        FileNotFoundError: there is none.
        ConfigError: access is refused.
        DataError: the storage does not answer, or gives other bytes than it says.
    """
    if not is_remote(path):
        path.stat()
        return path

    def fetch(remote: Path) -> Path:
        files, where = remote.fs, remote.path  # type: ignore[attr-defined]
        size, version = files.size(where), files.ukey(where)
        name = hashlib.sha256(f"{remote} {version}".encode()).hexdigest()[:24]

        def whole(aside: Path) -> None:
            files.get_file(where, str(aside))
            if (got := aside.stat().st_size) != size:
                raise OSError(f"{got:,} bytes came of {size:,}")

        return FileCache.of_environment().copy(f"{name}-{remote.name}", size, whole)

    return _asked(path, fetch)


def exists(path: Path) -> bool:
    """Whether there is a file, or anything below a directory.

    Raises:
        ConfigError: access is refused.
        DataError: the storage does not answer.
    """
    if not is_remote(path):
        return path.exists()
    try:
        return _asked(path, lambda remote: remote.exists())
    except FileNotFoundError:  # nor is there a bucket
        return False


def names_in(directory: Path) -> set[str]:
    """Names of what is in a directory.

    Raises:
        FileNotFoundError: there is none.
        ConfigError: access is refused.
        DataError: the storage does not answer.
    """

    def names(path: Path) -> set[str]:
        return {each.name for each in path.iterdir()}

    return _asked(directory, names) if is_remote(directory) else names(directory)


def write(path: Path, content: bytes) -> None:
    """Write a file that is there as a whole or not at all, as every object is.

    Raises:
        OSError: the disk refuses it.
        ConfigError: access is refused.
        DataError: the storage does not answer.
    """
    if is_remote(path):
        _asked(path, lambda remote: remote.write_bytes(content))
    else:
        write_whole(path, content)


def require_local(field: str, path: str | Path, then: str) -> None:
    """Refuse a URL where files are written that are no single objects.

    Raises:
        ConfigError: saying what to do.
    """
    if is_remote(path):
        raise ConfigError(f"{field}: {path} is a URL, and this writes to a disk only; {then}")


def _asked(path: Path, question: Callable[[Path], _Answer]) -> _Answer:
    """The storage's answer, asked for again after errors that may pass."""
    for wait in (*_WAITS, None):
        try:
            return question(located(str(path)))
        except (FileNotFoundError, ConfigError, DataError):
            raise
        except Exception as error:
            if isinstance(error, PermissionError) or type(error).__name__ in _REFUSED:
                raise ConfigError(
                    f"rows: {path} refuses access ({error}); give credentials as its file system of fsspec reads them, "
                    "of s3:// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile"
                ) from error
            if wait is None:
                raise DataError(
                    f"rows: {path} gave no answer in {len(_WAITS) + 1} attempts ({error}); run the same command again "
                    "when the storage answers, nothing finished is lost"
                ) from error
            warn(f"rows: {path}: {error}; trying again in {wait} s")
            time.sleep(wait)
    raise AssertionError("the last attempt answers or raises")
