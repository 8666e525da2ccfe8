"""A directory as programs see it, and as a disk may hold it after a power cut: content and names reach it by a sync."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Model = Literal["content lost", "names lost", "out of order"]
MODELS: tuple[Model, ...] = ("content lost", "names lost", "out of order")


@dataclass(eq=False)
class File:
    """A file.

    Attributes:
        content: that programs read.
        synced: at its last sync.
        kept: at its last sync, less what was truncated since.
    """

    content: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    kept: bytes = b""

    def write(self, offset: int, data: bytes) -> None:
        self.content.extend(bytes(max(0, offset - len(self.content))))
        self.content[offset : offset + len(data)] = data

    def truncate(self, size: int) -> None:
        self.kept = self.kept[:size]
        self.content = self.content[:size].ljust(size, b"\0")

    def sync(self) -> None:
        self.synced = self.kept = bytes(self.content)


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(eq=False)
class Directory:
    """A directory: the names that programs see, and those at its last sync."""

    names: dict[str, "Node"] = field(default_factory=dict)
    synced: dict[str, "Node"] = field(default_factory=dict)

    def sync(self) -> None:
        self.synced = dict(self.names)


Node = File | Directory | Link
# By path: a file's bytes, a link, or None for a directory.
Tree = dict[str, bytes | Link | None]


class Disk:
    """The directory ``root``, all of which is on the disk to begin with."""

    def __init__(self, root: Path) -> None:
        self.root, self.top = root, _load(root)
        self.written: File | None = None

    def find(self, path: str) -> Node | None:
        """What lies at an absolute path; None where there is nothing, or it is outside."""
        if path == str(self.root):
            return self.top
        try:
            place = self.parent(path)
        except KeyError:
            return None
        return place and place[0].names.get(place[1])

    def parent(self, path: str) -> tuple[Directory, str] | None:
        """The directory of an absolute path, and the name in it; None outside."""
        if not path.startswith(f"{self.root}/"):
            return None
        *above, name = path[len(str(self.root)) + 1 :].split("/")
        directory: Node = self.top
        for part in above:
            assert isinstance(directory, Directory)
            directory = directory.names[part]
        assert isinstance(directory, Directory)
        return directory, name

    def write(self, file: File, offset: int, data: bytes) -> None:
        file.write(offset, data)
        self.written = file

    def seen(self) -> Tree:
        """What programs see."""
        return dict(self._walk(self.top, "", lambda file: bytes(file.content), synced=False))

    def after_power_cut(self, model: Model) -> Tree:
        """What a machine that lost power now may find.

        Args:
            model: what had reached the disk. ``content lost``: all names, and of each file what was synced, truncated
                where it was truncated since. ``names lost``: of directories too only what was synced. ``out of order``:
                as content lost, but the file written last is there in whole, before all that were written earlier.
        """
        if model == "names lost":
            return dict(self._walk(self.top, "", lambda file: file.synced, synced=True))
        last = self.written if model == "out of order" else None

        def left(file: File) -> bytes:
            return bytes(file.content) if file is last else file.kept

        return dict(self._walk(self.top, "", left, synced=False))

    def _walk(
        self, directory: Directory, prefix: str, read: Callable[[File], bytes], synced: bool
    ) -> Iterator[tuple[str, bytes | Link | None]]:
        for name, node in sorted((directory.synced if synced else directory.names).items()):
            if isinstance(node, Directory):
                yield f"{prefix}{name}", None
                yield from self._walk(node, f"{prefix}{name}/", read, synced)
            else:
                yield f"{prefix}{name}", node if isinstance(node, Link) else read(node)


def _load(path: Path) -> Directory:
    names: dict[str, Node] = {}
    for entry in path.iterdir():
        if entry.is_symlink():
            names[entry.name] = Link(str(entry.readlink()))
        elif entry.is_dir():
            names[entry.name] = _load(entry)
        else:
            content = entry.read_bytes()
            names[entry.name] = File(bytearray(content), content, content)
    return Directory(names, dict(names))


def read_tree(path: Path) -> Tree:
    """What really lies in a directory."""
    return Disk(path).seen()


def write_tree(tree: Tree, root: Path) -> None:
    """Make an empty directory hold a tree."""
    for name, content in tree.items():
        path = root / name
        if content is None:
            path.mkdir()
        elif isinstance(content, Link):
            path.symlink_to(content.target)
        else:
            path.write_bytes(content)
