"""The harness itself: what a power cut leaves of a few recorded calls."""

import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.crash.disk import MODELS, Disk, Link, Model, Tree, read_tree
from tests.faults.crash.forks import in_a_fork, lack_of_recorder
from tests.faults.crash.recording import read_calls
from tests.faults.crash.replay import Replay
from tests.faults.crash.results import HEAD
from tests.faults.tables import merged


def hexadecimal(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def states(root: Path, log: list[str]) -> list[tuple[str, dict[Model, Tree]]]:
    """What is left by each model before each boundary, and at the end."""
    disk = Disk(root)
    replay = Replay(disk).operations(read_calls(log))
    found: list[tuple[str, dict[Model, Tree]]] = [
        (op.what, {m: disk.after_power_cut(m) for m in MODELS}) for op in replay if op.is_boundary
    ]
    return [*found, ("the end", {m: disk.after_power_cut(m) for m in MODELS})]


def test_what_was_not_synced_is_lost(tmp_path: Path) -> None:
    new, old = hexadecimal(f"{tmp_path}/new"), hexadecimal(f"{tmp_path}/old")
    (tmp_path / "old").write_text("before")
    log = [
        f'7 openat(AT_FDCWD<\\x2f>, "{new}", O_WRONLY|O_CREAT, 0666) = 3<{new}>',
        f'7 write(3<{new}>, "{hexadecimal("first")}", 5 <unfinished ...>',
        f'8 mkdir("{hexadecimal(f"{tmp_path}/old")}", 0777) = -1 EEXIST (File exists)',
        "7 <... write resumed>) = 5",
        f"7 fsync(3<{new}>) = 0",
        f'7 write(3<{new}>, "{hexadecimal(", second")}", 8) = 8',
        f'7 rename("{new}", "{old}") = 0',
        f'7 openat(AT_FDCWD<\\x2f>, "{hexadecimal(str(tmp_path))}", O_RDONLY) = 4<{hexadecimal(str(tmp_path))}>',
        f"7 fsync(4<{hexadecimal(str(tmp_path))}>) = 0",
    ]
    found = states(tmp_path, log)
    assert [what.split()[0] for what, _ in found] == ["create", "fsync", "rename", "fsync", "the"]
    lost, names, order = ([left[model] for _, left in found] for model in MODELS)
    assert lost[1] == {"old": b"before", "new": b""} and lost[2] == {"old": b"before", "new": b"first"}
    assert lost[3] == lost[4] == {"old": b"first"}
    assert names[3] == {"old": b"before"} and names[4] == {"old": b"first"}
    assert order[1] == {"old": b"before", "new": b"first"} and order[3] == {"old": b"first, second"}


def test_a_file_that_is_truncated_in_place_is_lost_with_its_old_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("before")
    name = hexadecimal(f"{tmp_path}/a")
    log = [
        f'7 openat(AT_FDCWD<\\x2f>, "{name}", O_WRONLY|O_TRUNC) = 3<{name}>',
        f'7 write(3<{name}>, "{hexadecimal("after")}", 5) = 5',
    ]
    assert states(tmp_path, log)[-1][1]["content lost"] == {"a": b""}


def change_much(root: Path) -> None:
    """Seek, append, move and link, in two processes that share a file."""
    (root / "a" / "b").mkdir(parents=True)
    with open(root / "a" / "b" / "c", "w+b") as stream:
        stream.write(b"0123456789")
        stream.seek(4)
        stream.write(b"x")
        stream.flush()
        os.pwrite(stream.fileno(), b"yz", 12)
        if (child := os.fork()) == 0:
            os.write(stream.fileno(), b"!")
            os._exit(0)
        os.waitpid(child, 0)
        os.write(stream.fileno(), b"?")
    with open(root / "a" / "b" / "c", "ab") as stream:
        stream.write(b"end")
    (root / "a").rename(root / "d")
    (root / "last").symlink_to("d")
    (root / "d" / "gone").write_bytes(b"")
    os.link(root / "d" / "b" / "c", root / "twice")
    (root / "d" / "gone").unlink()


needs_recorder = pytest.mark.skipif(lack_of_recorder() is not None, reason=str(lack_of_recorder()))


def replayed(change: Callable[[Path], None], root: Path, log: Path) -> Disk:
    """The disk after a recorded program that changes ``root``."""
    root.mkdir()
    disk = Disk(root)
    assert in_a_fork(lambda: change(root), log) is None
    with open(log) as stream:
        list(Replay(disk).operations(read_calls(stream)))
    return disk


@needs_recorder
def test_a_replay_leads_to_what_a_program_really_left(tmp_path: Path) -> None:
    root = tmp_path / "root"
    disk = replayed(change_much, root, tmp_path / "log")
    assert disk.seen() == read_tree(root)
    assert disk.seen()["d/b/c"] == b"0123x!?789\0\0yzend"
    assert disk.seen()["last"] == Link("d")


def write_by_mapping(root: Path) -> None:
    with open(root / "mapped", "w+b") as stream:
        stream.truncate(8)
        with mmap.mmap(stream.fileno(), 8) as mapped:
            mapped[0] = 1


@needs_recorder
def test_a_write_that_is_no_call_shows(tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert replayed(write_by_mapping, root, tmp_path / "log").seen() != read_tree(root)


def test_a_fork_tells_why_it_failed() -> None:
    def fail() -> None:
        raise ValueError("broken")

    actions: list[Callable[[], None]] = [fail, lambda: None]
    assert [in_a_fork(action) for action in actions] == ["ValueError: broken", None]


def test_a_run_of_one_verb_keeps_the_rows_of_the_others() -> None:
    table = merged(
        HEAD, "", {("fit", "names lost"): ["1", "2"], ("score", "names lost"): ["3", "4"]}, "2026-01-01", "aaa"
    )
    again = merged(HEAD, table, {("score", "names lost"): ["5", "6"]}, "2026-02-02", "bbb")
    assert again.splitlines()[-2:] == [
        "| fit | names lost | 1 | 2 | 2026-01-01 | aaa |",
        "| score | names lost | 5 | 6 | 2026-02-02 | bbb |",
    ]
