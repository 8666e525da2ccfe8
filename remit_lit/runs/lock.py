"""One command at a time writes a folder."""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from remit_lit.errors import ConfigError
from remit_lit.files import make_directory
from remit_lit.runs.folder import global_rank, warn
from remit_lit.runs.provenance import now

SUFFIX = ".lock"
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


@contextmanager
def held(field: str, folder: str | Path) -> Iterator[bool]:
    """Hold ``folder``, which need not exist yet, for as long as the context lasts; of several ranks the first does.

    The context's value is whether this process holds it.

    The lock is the kernel's, on the file ``.NAME.lock`` beside the folder (in it, where only the folder itself can be
    written), which says who holds it. It ends with the process, however that ends, and workers that outlive it hold
    nothing. On a network file system it holds between machines where that passes POSIX locks on (NFS 4, Lustre with
    flock); where there are none, a warning says so.

    Args:
        field: that names the folder, for messages.
        folder: which is to be written.

    Raises:
        ConfigError: another process holds it, or the folder cannot be written.
    """
    if global_rank():
        yield False
        return
    folder = Path(folder).absolute()
    try:
        make_directory(folder.parent)
        place = folder if folder.is_dir() and not os.access(folder.parent, os.W_OK) else folder.parent
        path = place / f".{folder.name}{SUFFIX}"
        handle = _locked(field, folder, path)
    except OSError as error:
        raise ConfigError(f"{field}: {folder} cannot be written ({error.strerror}); give another folder") from error
    if handle is None:
        warn(f"{field}: this file system locks no files; see that no other command writes {folder}")
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)  # before others can hold it
        os.close(handle)


def _locked(field: str, folder: Path, path: Path) -> int | None:
    """An open file that is locked and is the one at ``path``; None where nothing can be locked."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, path):
                holder = {"host": socket.gethostname(), "process": os.getpid(), "since": now()}
                os.truncate(handle, 0)
                os.pwrite(handle, json.dumps(holder).encode(), 0)
                return handle
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                said = _holder(handle)
                os.close(handle)
                raise ConfigError(
                    f"{field}: {folder} is being written by {said}; wait until it ends, or give another folder"
                ) from None
            os.close(handle)
            if error.errno in _UNSUPPORTED:
                return None
            raise
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Whether the file was not removed, by the one that held it before, between opening and locking."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _holder(handle: int) -> str:
    try:
        holder = json.loads(os.pread(handle, 4096, 0))
        return f"process {holder['process']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
