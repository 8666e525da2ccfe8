"""The system calls by which programs change files, as strace records them."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

CALLS = (
    *("open", "openat", "creat", "close", "write", "pwrite64", "writev", "pwritev", "pwritev2", "lseek"),
    *("truncate", "ftruncate", "fallocate", "fsync", "fdatasync", "sync", "syncfs"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat"),
    *("link", "linkat", "symlink", "symlinkat", "dup", "dup2", "dup3", "fcntl"),
    *("clone", "clone3", "fork", "vfork", "copy_file_range", "sendfile", "splice", "io_uring_setup"),
)
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-1|\d+|0x[0-9a-f]+)(.*)$")
_UNFINISHED = re.compile(r"(\d+) +(.*?)(?: |, )?<unfinished \.\.\.>$")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_PLACE = re.compile(r"(-?\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>")


@dataclass(frozen=True)
class Call:
    """A call that succeeded: ``name(text) = result``, by a thread of that number."""

    thread: int
    name: str
    text: str
    result: int
    returned: str

    @cached_property
    def strings(self) -> list[bytes]:
        """Its strings: paths, or data."""
        return [_bytes(text) for text in _STRING.findall(self.text)]

    @cached_property
    def places(self) -> list[tuple[int, str]]:
        """Its descriptors with the paths that they are of; -1 is the working directory."""
        return [
            (-1 if number == "AT_FDCWD" else int(number), _path(path)) for number, path in _PLACE.findall(self.text)
        ]

    @property
    def opened(self) -> str:
        """The path of the descriptor that it returned."""
        found = _PLACE.match(f"{self.result}{self.returned}")
        return _path(found[2]) if found else ""

    @property
    def numbers(self) -> list[int]:
        """Its arguments that are plain numbers."""
        return [int(part) for part in re.split(r", ", _STRING.sub("", self.text)) if re.fullmatch(r"-?\d+", part)]

    @property
    def paths(self) -> list[str]:
        """The absolute paths that its strings name."""
        above = [path for _, path in self.places] or [str(Path.cwd())] * len(self.strings)
        above += above[-1:] * len(self.strings)
        return [str(Path(directory, text.decode())) for directory, text in zip(above, self.strings, strict=False)]


def read_calls(lines: Iterable[str]) -> Iterator[Call]:
    """The calls of a log that succeeded, in the order in which they ended."""
    begun: dict[str, str] = {}
    for line in lines:
        line = line.rstrip("\n")
        if unfinished := _UNFINISHED.match(line):
            begun[unfinished[1]] = unfinished[2]
            continue
        if resumed := _RESUMED.match(line):
            line = f"{resumed[1]} {begun.pop(resumed[1])}{resumed[2]}"
        found = _LINE.match(line)
        if found and found[4] != "-1":
            yield Call(int(found[1]), found[2], found[3], int(found[4], 0), found[5])


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _path(text: str) -> str:
    return _bytes(text).decode(errors="surrogateescape")
