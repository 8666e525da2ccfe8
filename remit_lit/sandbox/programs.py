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
    """Run a Python program, e.g. a model's answer followed by its tests, where it can do no harm.

    It has an interpreter of its own with the standard library alone, no arguments, no environment, an empty standard
    input, and a fixed hash seed. It may write files of up to 16 MiB, but make no directory, where it runs, which is
    removed with it; it can neither read other files than those of the interpreter nor change any. It can open no
    socket and start no process, but threads. See :mod:`remit_lit.sandbox.confinement` for how. What all of its
    files take together is bounded by its time only.

    A program that leaves early, if only by ``sys.exit(0)``, has failed, as in OpenAI's human_eval: else an answer
    would pass by leaving before its tests. A program made to deceive can still claim to have passed: whatever tests
    an answer in the answer's own process is in its hands.

    Args:
        program: Python source.
        seconds: of wall time, the interpreter's start among them, and of CPU time over all threads, rounded up.
        memory_bytes: address space of the process.

    Raises:
        ConfigError: this machine cannot hold programs, or a limit is no limit.
    """
    if not 0 < seconds < math.inf:
        raise ConfigError(f"seconds: got {seconds}; give a positive number")
    if memory_bytes < _LEAST_MEMORY_BYTES:
        raise ConfigError(
            f"memory_bytes: got {memory_bytes}; give at least {_LEAST_MEMORY_BYTES}, which the interpreter itself needs"
        )
    if problem := check_sandbox():
        raise ConfigError(f"sandbox: this machine cannot confine generated programs: {problem}")
    return _run(program, seconds, memory_bytes)


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
    with tempfile.TemporaryDirectory(prefix="remit_lit-program-") as directory:
        Path(directory, PROGRAM).write_text(program, encoding="utf-8", errors="replace")
        receive, send = os.pipe()
        try:
            try:
                process = _start(directory, send, seconds, memory_bytes)
            finally:
                os.close(send)
            ended, output = _follow(process, seconds)
            report = os.read(receive, len(HELD + PASSED) + 1)
        finally:
            os.close(receive)
    if not ended or process.returncode == -signal.SIGXCPU:
        return Outcome("timeout", output)
    if not report.startswith(HELD):
        raise ConfigError(f"the limits could not be set: {output.strip().rsplit(chr(10), 1)[-1]}")
    return Outcome("passed" if report == HELD + PASSED and process.returncode == 0 else "failed", output)


def _start(directory: str, report: int, seconds: float, memory_bytes: int) -> "subprocess.Popen[bytes]":
    limits = [str(os.getpid()), str(report), str(math.ceil(seconds)), str(memory_bytes)]
    return subprocess.Popen(
        # -P -s -S: the standard library alone; -I would do away with the hash seed too.
        [sys.executable, "-PsSB", "-Xutf8", str(_CONFINEMENT), *limits],
        cwd=directory,
        env={"PYTHONHASHSEED": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(report,),
        start_new_session=True,
    )


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
