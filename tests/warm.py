"""The command line in real processes that need not import its libraries again: each is forked from one that did.

They are the processes of :func:`multiprocessing.get_context` ``("forkserver")``, as those of a table's jobs are.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["remit_lit.cli.training", "remit_lit.reference.score", "deepspeed", "tests.warm"])


class WarmProcess:
    """``python -m remit_lit ARGUMENTS`` in a session of its own, with the methods of :class:`subprocess.Popen`.

    Args:
        arguments: of the command line, the verb first.
        printed: the file that standard output and error are added to.
        variables: environment variables beside those of this process.
        cwd: the working directory; None: this process's.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        printed: Path,
        variables: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        environment = {**os.environ, **(variables or {})}
        given = (list(arguments), str(printed), environment, str(cwd or Path.cwd()))
        # A forked process becomes the leader of its group a moment after it was started: the parent waits for that.
        receiver, sender = _CONTEXT.Pipe(duplex=False)
        self._process = _CONTEXT.Process(target=_command, args=(*given, sender))
        self._process.start()
        sender.close()
        receiver.recv()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """As of a child process: the exit code, minus the number of the signal that ended it, None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("remit_lit", timeout or 0)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)


def _command(arguments, printed, environment, cwd, ready) -> None:  # type: ignore[no-untyped-def]
    # A forked process hands its own start method on; a command line's process has the interpreter's.
    multiprocessing.set_start_method(None, force=True)
    os.setsid()
    ready.send(None)
    ready.close()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    with open(printed, "ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    sys.argv[1:] = arguments
    runpy.run_module("remit_lit", run_name="__main__", alter_sys=True)
