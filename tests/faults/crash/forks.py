"""Actions in processes that have our imports already, some of them recorded by strace."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.faults.crash.recording import CALLS
from tests.processes import SECONDS

_STRACE = ["strace", "-f", "-y", "-xx", "-s", "1000000000", "-e", "signal=none", "-e", f"trace={','.join(CALLS)}"]


def lack_of_recorder() -> str | None:
    """Why nothing can be recorded on this machine; None where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True)
    return f"strace cannot trace here ({tried.stderr.strip()})" if tried.returncode else None


def in_a_fork(action: Callable[[], None], log: Path | None = None) -> str | None:
    """Run an action in a process of its own; what it said when it failed, None if it did not.

    Args:
        action: to run.
        log: where strace records the calls that change files; None records none.
    """
    with tempfile.TemporaryFile() as printed, contextlib.ExitStack() as stack:
        child = os.fork()
        if child == 0:
            _run(action, printed.fileno(), waits=log is not None)
        if log is not None:
            stack.enter_context(_recorded(child, log))
        _, status = os.waitpid(child, 0)
        printed.seek(0)
        said = [line for line in printed.read().decode(errors="replace").splitlines() if line.strip()]
    if status == 0:
        return None
    errors = [line for line in said if line.startswith("error: ")]
    return (errors or said or [f"it ended with status {status}"])[-1]


def _run(action: Callable[[], None], printed: int, waits: bool) -> None:
    code = 1
    try:
        signal.alarm(10 * SECONDS)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        sys.stdout = sys.stderr = open(printed, "w", closefd=False)  # noqa: SIM115  (as long as the process lasts)
        if waits:
            os.kill(os.getpid(), signal.SIGSTOP)
        action()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@contextlib.contextmanager
def _recorded(child: int, log: Path):  # type: ignore[no-untyped-def]
    """Let a child that waits go on under strace."""
    os.waitpid(child, os.WUNTRACED)
    with subprocess.Popen([*_STRACE, "-o", str(log), "-p", str(child)], stderr=subprocess.DEVNULL) as tracer:
        while "TracerPid:\t0\n" in Path(f"/proc/{child}/status").read_text():
            assert tracer.poll() is None, "strace ended before it began"
            time.sleep(0.01)
        os.kill(child, signal.SIGCONT)
        yield
