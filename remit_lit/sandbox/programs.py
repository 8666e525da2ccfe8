"""Generated programs in a process that the kernel confines: limited time, memory and files, and no network."""

import functools
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from remit_lit.errors import ConfigError
from remit_lit.sandbox.confinement import HELD, PASSED, PROGRAM

_CONFINEMENT = Path(__file__).with_name("confinement.py")
_OUTPUT_CHARACTERS = 2000
_PIECE_BYTES = 65536
_CHECK_SECONDS = 60.0
_LEAST_MEMORY_BYTES = 2**26
_CHECK = """
import os, socket
for held in (lambda: os.listdir("/"), os.fork, socket.socket):
    try:
        held()
    except PermissionError:
        continue
    raise SystemExit("the limits were set but have no effect")
"""


@dataclass(frozen=True)
class Outcome:
    """What became of a program.

    Attributes:
        status: ``passed`` where it ran to its end; ``timeout`` where its seconds were over before; else ``failed``.
        output: the last 2,000 characters of what it printed, errors among it.
    """

    status: Literal["passed", "failed", "timeout"]
    output: str


def run_code(program: str, *, seconds: float = 10.0, memory_bytes: int = 2**30) -> Outcome:
    """Run a Python program, e.g. a model's answer, where it can do no harm.

    It has an interpreter of its own with the standard library alone, no arguments, no environment, an empty standard
    input, and a fixed hash seed. It may write files of up to 16 MiB, but make no directory, where it runs, which is
    removed with it; it can neither read other files than those of the interpreter nor change any. It can open no
    socket and start no process, but threads. See :mod:`remit_lit.sandbox.confinement` for how. What all of its
    files take together is bounded by its time only.

    A program that leaves early, if only by ``sys.exit(0)``, has failed, as in OpenAI's human_eval: else an answer
    would pass by leaving before its tests. A program made to deceive can still claim to have passed: whatever tests
    an answer in the answer's own process is in its hands. :func:`remit_lit.sandbox.tested.run_tests` keeps them apart.

    Args:
        program: Python source.
        seconds: of wall time, the interpreter's start among them, and of CPU time over all threads, rounded up.
        memory_bytes: address space of the process.

    Raises:
        ConfigError: this machine cannot hold programs, or a limit is no limit.
    """
    require_sandbox(seconds, memory_bytes)
    return _run(program, seconds, memory_bytes)


def require_sandbox(seconds: float, memory_bytes: int) -> None:
    """Refuse limits that are none, and a machine that cannot hold programs.

    Raises:
        ConfigError: naming what would be right.
    """
    if not 0 < seconds < math.inf:
        raise ConfigError(f"seconds: got {seconds}; give a positive number")
    if memory_bytes < _LEAST_MEMORY_BYTES:
        raise ConfigError(
            f"memory_bytes: got {memory_bytes}; give at least {_LEAST_MEMORY_BYTES}, which the interpreter itself needs"
        )
    if problem := check_sandbox():
        raise ConfigError(f"sandbox: this machine cannot confine generated programs: {problem}")


@functools.cache
def check_sandbox() -> str | None:
    """Why this machine cannot confine generated programs; None where it can. A trial program is run once."""
    if sys.platform != "linux":
        return f"the sandbox needs Linux (Landlock and seccomp); this is {sys.platform}"
    try:
        outcome = _run(_CHECK, _CHECK_SECONDS, 2**30)
    except ConfigError as error:
        return str(error)
    return None if outcome.status == "passed" else f"{outcome.status}: {outcome.output.strip()}"


def _run(program: str, seconds: float, memory_bytes: int) -> Outcome:
    with started(program, seconds, memory_bytes) as process:
        return process.outcome()


class Started:
    """A program that runs.

    Args:
        process: its process.
        report: descriptor to read what the process reports from.
        seconds: that it may run.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", report: int, seconds: float) -> None:
        self.process, self._report, self._seconds = process, report, seconds

    def outcome(self) -> Outcome:
        """Wait for its end, or for that of its time.

        Raises:
            ConfigError: this machine cannot hold it.
        """
        ended, output = _follow(self.process, self._seconds)
        if not ended or self.process.returncode == -signal.SIGXCPU:
            return Outcome("timeout", output)
        report = os.read(self._report, len(HELD + PASSED) + 1)
        if not report.startswith(HELD):
            raise ConfigError(f"the limits could not be set: {output.strip().rsplit(chr(10), 1)[-1]}")
        return Outcome("passed" if report == HELD + PASSED and self.process.returncode == 0 else "failed", output)


@contextmanager
def started(
    program: str, seconds: float, memory_bytes: int, *, passed: tuple[int, ...] = (), watched: bool = True
) -> Iterator[Started]:
    """A program in a confined process of its own, which is killed and removed as the context ends.

    Args:
        program: Python source.
        seconds: see :func:`run_code`.
        memory_bytes: see :func:`run_code`.
        passed: descriptors that it inherits.
        watched: what it prints is kept, and it reports its end; else it has nothing to report by.
    """
    with tempfile.TemporaryDirectory(prefix="remit_lit-program-") as directory:
        Path(directory, PROGRAM).write_text(program, encoding="utf-8", errors="replace")
        receive, send = os.pipe()
        try:
            limits = [os.getpid(), send, int(watched), math.ceil(seconds), memory_bytes]
            try:
                process = subprocess.Popen(
                    # -P -s -S: the standard library alone; -I would do away with the hash seed too.
                    [sys.executable, "-PsSB", "-Xutf8", str(_CONFINEMENT), *map(str, limits)],
                    cwd=directory,
                    env={"PYTHONHASHSEED": "0"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE if watched else subprocess.DEVNULL,
                    stderr=subprocess.STDOUT,
                    pass_fds=(send, *passed),
                    start_new_session=True,
                )
            finally:
                os.close(send)
            with process:
                try:
                    yield Started(process, receive, seconds)
                finally:
                    process.kill()
        finally:
            os.close(receive)


def _follow(process: "subprocess.Popen[bytes]", seconds: float) -> tuple[bool, str]:
    """Whether the process ended by itself within ``seconds``, and the end of what it printed; it has ended then."""
    assert process.stdout is not None
    end = time.monotonic() + seconds
    stream, printed = process.stdout.fileno(), b""
    ready = select.poll()
    ready.register(stream, select.POLLIN)
    with process:
        try:
            while ready.poll(max(0.0, end - time.monotonic()) * 1000) and time.monotonic() < end:
                piece = os.read(stream, _PIECE_BYTES)
                if not piece:
                    break
                printed = (printed + piece)[-4 * _OUTPUT_CHARACTERS :]  # a character has up to four bytes
            # A program that closed its output may still run.
            process.wait(max(0.0, end - time.monotonic()))
            ended = True
        except subprocess.TimeoutExpired:
            ended = False
        finally:
            process.kill()
    return ended, printed.decode(errors="replace")[-_OUTPUT_CHARACTERS:]
