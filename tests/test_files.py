import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from remit_lit.errors import DataError
from remit_lit.files import build_once, full_disk_named, replaced, scratch_beside, write_whole


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("content", ["läßt\n", b"\x00\xff"], ids=["text", "bytes"])
def test_a_file_is_replaced_and_nothing_else_is_left(content, tmp_path):
    path = tmp_path / "record.json"
    path.write_text("old")
    write_whole(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names_in(tmp_path) == ["record.json"]


@pytest.mark.fault("a disk that is full while a file is written", "it is named with what to do")
@pytest.mark.parametrize("hidden", [False, True], ids=["itself", "behind a library's error"])
def test_a_full_disk_is_named(hidden):
    full = OSError(28, "No space left on device")
    error = RuntimeError("generation failed") if hidden else full
    error.__cause__ = full if hidden else None
    with (
        pytest.raises(DataError, match=r"^output: no space left \(No space left on device\); make room$"),
        full_disk_named("output", "make room"),
    ):
        raise error


def test_other_errors_pass_as_they_are():
    with pytest.raises(PermissionError), full_disk_named("output", "make room"):
        raise PermissionError(13, "Permission denied")


@pytest.mark.fault("a failure while a file is replaced", "the old file stays whole")
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_writer_that_fails_leaves_the_old_file_whole(step, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    path = tmp_path / "record.json"
    path.write_text("old")
    monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[step], refuse)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["record.json"]


def run_until_killed(program: str, directory: Path) -> None:
    """Run a program that calls ``kill()``; it has ``os``, ``files`` and ``directory`` to work with."""
    setup = f"""
import os, signal
from pathlib import Path
from remit_lit import files
directory = Path({str(directory)!r})
kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""
    process = subprocess.run([sys.executable, "-c", setup + program], check=False)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.fault("kill -9 while a file is replaced", "the old file stays whole")
def test_a_killed_writer_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "record.json"
    path.write_text("old")
    run_until_killed("os.fsync = kill\nfiles.write_whole(directory / 'record.json', 'new')", tmp_path)
    assert path.read_text() == "old"
    write_whole(path, "newer")
    assert path.read_text() == "newer"


def test_a_directory_is_replaced_and_nothing_else_is_left(tmp_path):
    directory = tmp_path / "new" / "subset"
    for content in ("first", "second"):
        with replaced(directory) as aside:
            (aside / "inner").mkdir()
            (aside / "inner" / content).touch()
        assert names_in(directory / "inner") == [content]
    assert names_in(directory.parent) == ["subset"]


@pytest.mark.fault("a failure while a directory is replaced", "the old one stays whole")
def test_a_directory_whose_writing_fails_stays_as_it_was(tmp_path):
    directory = tmp_path / "subset"
    with replaced(directory) as aside:
        (aside / "old").touch()

    def fail() -> None:
        with replaced(directory) as aside:
            (aside / "half").touch()
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert names_in(directory) == ["old"]
    assert names_in(tmp_path) == ["subset"]


@pytest.mark.fault("kill -9 while a directory is replaced", "the old one stays whole, and the next writer tidies up")
def test_a_directory_whose_writer_is_killed_stays_as_it_was_and_the_next_writer_tidies_up(tmp_path):
    directory = tmp_path / "subset"
    with replaced(directory) as aside:
        (aside / "old").touch()
    run_until_killed("with files.replaced(directory / 'subset') as aside: (aside / 'half').touch(); kill()", tmp_path)
    assert names_in(directory) == ["old"]
    assert len(names_in(tmp_path)) == 2
    with replaced(directory) as aside:
        (aside / "new").touch()
    assert names_in(directory) == ["new"]
    assert names_in(tmp_path) == ["subset"]


def test_the_directory_of_a_process_that_still_writes_is_left_alone(tmp_path):
    with scratch_beside(tmp_path / "rows") as scratch:
        others = scratch.with_name(scratch.name.replace(f".{os.getpid()}.", f".{os.getppid()}."))
        others.mkdir()
    with scratch_beside(tmp_path / "rows"):
        assert others.exists()


def test_builds_once_and_again_when_the_recipe_changes(tmp_path):
    built = []

    def build(folder):
        built.append(folder)
        (folder / f"file-{len(built)}").touch()

    for seed in (0, 0, 1):
        folder = build_once(tmp_path / "out", {"seed": seed}, build)
    assert len(built) == 2
    assert names_in(folder) == ["file-2", "recipe.json"]


@pytest.mark.fault("kill -9 of a build of the cache", "it is not taken for a finished one")
def test_an_interrupted_build_is_not_taken_for_a_finished_one(tmp_path):
    def broken(folder):
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_once(tmp_path / "out", {}, broken)
    assert not (tmp_path / "out").exists()
    folder = build_once(tmp_path / "out", {}, lambda folder: (folder / "whole").touch())
    assert names_in(folder) == ["recipe.json", "whole"]


def test_who_asks_meanwhile_waits_for_the_build(tmp_path):
    built = []

    def build(folder):
        built.append(folder)
        time.sleep(0.2)
        (folder / "whole").touch()

    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: build_once(tmp_path / "out", {}, build), range(4)))
    assert len(built) == 1 and all((folder / "whole").exists() for folder in folders)
