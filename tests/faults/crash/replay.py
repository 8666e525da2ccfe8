"""Recorded calls, done again one after the other on a :class:`~tests.faults.crash.disk.Disk`."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from tests.faults.crash.disk import Directory, Disk, File, Link
from tests.faults.crash.recording import Call

_UNKNOWN = ("copy_file_range", "sendfile", "splice")


class Unseen(Exception):  # noqa: N818
    """Files may have changed in a way that the recorded calls do not show."""


@dataclass(eq=False)
class _Opened:
    """An open file or directory, shared by all descriptors that were copied from one."""

    node: File | Directory
    appends: bool
    offset: int = 0


@dataclass(frozen=True)
class Operation:
    """What a call does below the root.

    Attributes:
        what: for people.
        is_boundary: whether it may change what is on the disk; a write does not before its file is synced.
        apply: do it.
    """

    what: str
    is_boundary: bool
    apply: Callable[[], None] = field(repr=False)


class Replay:
    """Follows processes and their descriptors.

    Args:
        disk: as it was before the first call.
    """

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._tables: dict[int, dict[int, _Opened]] = {}

    def operations(self, calls: Iterable[Call]) -> Iterator[Operation]:
        """Each operation below the root just before it is done; going on does it.

        Raises:
            Unseen: files were changed in a way that calls do not show, so that no cut could be judged.
        """
        calls = list(calls)
        starts = {c.result: c for c in calls if c.name in ("clone", "clone3", "fork", "vfork") and c.result}
        for call in calls:
            table = self._table(call.thread, starts)
            if call.name in ("clone", "clone3", "fork", "vfork"):
                self._table(call.result, starts)
            elif call.name == "io_uring_setup":
                raise Unseen("io_uring: its writes are no calls")
            else:
                for operation in self._read(call, table):
                    yield operation
                    operation.apply()

    def _table(self, thread: int, starts: dict[int, Call]) -> dict[int, _Opened]:
        """The descriptors of a thread: its starter's where it is one of the same process, else a copy of them."""
        if thread not in self._tables:
            start = starts.get(thread)
            above = self._tables.get(start.thread, {}) if start else {}
            self._tables[thread] = above if start and "CLONE_FILES" in start.text else dict(above)
        return self._tables[thread]

    def _read(self, call: Call, table: dict[int, _Opened]) -> Iterator[Operation]:
        name = call.name
        if name in ("open", "openat", "creat"):
            yield from self._open(call, table)
        elif name in ("rename", "renameat", "renameat2", "link", "linkat"):
            yield from self._name(call, *call.paths)
        elif name in ("unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "symlink", "symlinkat"):
            yield from self._name(call, call.paths[-1])
        elif name == "sync":
            yield Operation("sync", True, lambda: _sync_all(self.disk.top))
        elif name == "truncate":
            file = self.disk.find(call.paths[0])
            if isinstance(file, File):
                yield self._truncate(call.paths[0], file, call.numbers[-1])
        elif call.places:
            yield from self._on_descriptor(call, table)

    def _open(self, call: Call, table: dict[int, _Opened]) -> Iterator[Operation]:
        path, flags = call.opened, call.text if call.name != "creat" else "O_CREAT|O_TRUNC"
        table.pop(call.result, None)
        place = self.disk.parent(path)
        if place is None and path != str(self.disk.root):
            return
        node = self.disk.find(path)
        if node is None and place is not None:
            directory, name = place
            node = File()
            yield Operation(f"create {path}", True, lambda: directory.names.update({name: node}))
        elif "O_TRUNC" in flags and isinstance(node, File) and node.content:
            yield self._truncate(path, node, 0)
        assert isinstance(node, File | Directory), path
        table[call.result] = _Opened(node, "O_APPEND" in flags)

    def _name(self, call: Call, *paths: str) -> Iterator[Operation]:
        """A change of directories: one that makes, moves or removes a name."""
        places = [self.disk.parent(path) for path in paths]
        what = f"{call.name} {' '.join(paths)}"
        directory, name = places[-1] or (Directory(), "")
        if call.name.startswith(("rename", "link")):
            source, old = places[0] or (Directory(), "")
            if (places[0] is None) != (places[-1] is None):
                raise Unseen(f"{what}: between the recorded directory and another")
            if places[0] is not None:
                yield Operation(what, True, lambda: _move(source, old, directory, name, call.name.startswith("rename")))
        elif places[-1] is None:
            return
        elif call.name.startswith("mkdir"):
            yield Operation(what, True, lambda: directory.names.update({name: Directory()}))
        elif call.name.startswith("symlink"):
            yield Operation(what, True, lambda: directory.names.update({name: Link(call.strings[0].decode())}))
        else:
            yield Operation(what, True, lambda: _remove(directory, name))

    def _on_descriptor(self, call: Call, table: dict[int, _Opened]) -> Iterator[Operation]:
        (number, path), name = call.places[0], call.name
        opened = table.get(number)
        if name.startswith("dup") or (name == "fcntl" and "F_DUPFD" in call.text):
            table.pop(call.result, None)
            if opened is not None:
                table[call.result] = opened
        elif name == "close":
            table.pop(number, None)
        elif name == "syncfs":
            yield Operation(f"syncfs {path}", True, lambda: _sync_all(self.disk.top))
        elif opened is None:
            if "write" in name and path.startswith(f"{self.disk.root}/"):
                raise Unseen(f"{name} {path}: a descriptor of unknown origin")
        elif name in ("fsync", "fdatasync"):
            yield Operation(f"{name} {path}", True, opened.node.sync)
        elif isinstance(opened.node, File):
            yield from self._on_file(call, opened, opened.node, path)

    def _on_file(self, call: Call, opened: _Opened, file: File, path: str) -> Iterator[Operation]:
        name = call.name
        if name == "lseek":
            opened.offset = call.result
        elif name in ("ftruncate", "fallocate"):
            yield self._truncate(path, file, call.numbers[-1] if name == "ftruncate" else _allocated(call, file))
        elif "write" in name:
            data = b"".join(call.strings)[: call.result]
            if name.startswith("p"):
                offset = call.numbers[1] if name == "pwrite64" else call.numbers[-1]
            else:
                offset = len(file.content) if opened.appends else opened.offset
                opened.offset = offset + len(data)
            yield Operation(f"{name} {path}", False, lambda: self.disk.write(file, offset, data))
        elif name in _UNKNOWN:
            raise Unseen(f"{name} {path}: what was written is not recorded")

    def _truncate(self, path: str, file: File, size: int) -> Operation:
        return Operation(f"truncate {path} to {size}", True, lambda: file.truncate(size))


def _remove(directory: Directory, name: str) -> None:
    del directory.names[name]


def _move(source: Directory, old: str, target: Directory, name: str, removes: bool) -> None:
    node = source.names[old]
    if removes:
        del source.names[old]
    target.names[name] = node


def _allocated(call: Call, file: File) -> int:
    offset, length = call.numbers[-2:]
    return len(file.content) if "KEEP_SIZE" in call.text else max(len(file.content), offset + length)


def _sync_all(directory: Directory) -> None:
    directory.sync()
    for node in directory.names.values():
        if isinstance(node, Directory):
            _sync_all(node)
        elif isinstance(node, File):
            node.sync()
