"""Lines of a file of bytes, whichever line ends it has: ``\\n``, ``\\r\\n``, or a bare ``\\r``."""

from collections.abc import Iterator
from typing import IO


def lines_of(stream: IO[bytes]) -> Iterator[bytes]:
    """The lines that begin at the stream's place, without their ends."""
    for line in stream:
        yield from split_line(line)


def split_line(line: bytes) -> list[bytes]:
    """A line that was read up to ``\\n``, cut at each bare ``\\r``, without line ends."""
    return line.removesuffix(b"\n").removesuffix(b"\r").split(b"\r")


def count_lines(stream: IO[bytes], size: int) -> int:
    """Line ends in the first ``size`` bytes of a stream."""
    count, last = 0, b""
    while size > 0 and (block := stream.read(min(size, 2**20))):
        size -= len(block)
        count += block.count(b"\n") + block.count(b"\r") - (last + block).count(b"\r\n")
        last = block[-1:]
    return count
