"""Real processes that need not import the libraries again: each is forked from one that did.

They are the processes of :func:`multiprocessing.get_context` ``("forkserver")``, as those of a table's jobs are.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any

from remit_lit.verbs import VERBS

_CONTEXT = multiprocessing.get_context("forkserver")
# What a verb imports, at its start and in its midst.
_LIBRARIES = [
    *(verb.function.split(":")[0] for verb in VERBS.values()),
    "datasets",
    "deepspeed",
    "remit_lit.evaluation.lab",
    "torch.utils.tensorboard",
    "transformers.models.llama.modeling_llama",
    "trl.trainer.sft_trainer",
    "tests.warm",
]
_CONTEXT.set_forkserver_preload(_LIBRARIES)


def start_server() -> None:
    """Start the process that others are forked from, jobs too: where one of those comes first, it knows its verbs only.

    It goes on importing while the caller does something else.
    """
    _CONTEXT.set_forkserver_preload(_LIBRARIES)
    forkserver.ensure_running()


class _Forked:
    """A forked process with the methods of :class:`subprocess.Popen`."""

    def __init__(self, process: BaseProcess, command: Sequence[str] = ()) -> None:
        assert process.pid is not None
        self._process, self.pid, self.args = process, process.pid, command

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

    def communicate(self, *_: Any, timeout: float | None = None) -> tuple[None, None]:
        self.wait(timeout)
        return None, None

    def __enter__(self) -> "_Forked":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.wait()


class ForkedProcess(_Forked):
    """``function(*arguments)`` in a session of its own.

    Args:
        function: at the top of a module.
        arguments: what can be pickled.
        printed: the file that standard output and error are added to.
        variables: environment variables beside those of this process.
        cwd: the working directory; None: this process's.
    """

    def __init__(
        self,
        function: Callable[..., None],
        arguments: Sequence[Any],
        printed: Path,
        variables: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        environment = {**os.environ, **(variables or {})}
        given = (function, tuple(arguments), str(printed), environment, str(cwd or Path.cwd()))
        # A forked process becomes the leader of its group a moment after it was started: the parent waits for that.
        receiver, sender = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(target=_begin, args=(*given, sender))
        process.start()
        sender.close()
        receiver.recv()
        super().__init__(process)


class WarmProcess(ForkedProcess):
    """``python -m remit_lit ARGUMENTS`` in a session of its own; the command lines that it starts are forked from it.

    Args:
        arguments: of the command line, the verb first.
        printed: as of :class:`ForkedProcess`, like the rest.
        variables: environment variables.
        cwd: the working directory.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        printed: Path,
        variables: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        super().__init__(_command, [list(arguments)], printed, variables, cwd)


def forget(*packages: str) -> None:
    """Have the next import of these packages start from nothing, as in a process that has just begun."""
    for name in [name for name in sys.modules if name.split(".")[0] in packages]:
        del sys.modules[name]


def _begin(function, arguments, printed, environment, cwd, ready) -> None:  # type: ignore[no-untyped-def]
    # A forked process hands its own start method on; a command line's process has the interpreter's.
    multiprocessing.set_start_method(None, force=True)
    os.setsid()
    ready.send(None)
    ready.close()
    os.chdir(cwd)
    _take_environment(environment)
    with open(printed, "ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    function(*arguments)


def _command(arguments: list[str]) -> None:
    _Popen.spare = _Spare()
    subprocess.Popen = _Popen  # type: ignore[assignment, misc]
    sys.argv[1:] = arguments
    try:
        runpy.run_module("remit_lit", run_name="__main__", alter_sys=True)
    finally:
        _Popen.spare.dismiss()


class _Popen(subprocess.Popen):
    """Forks the command lines of this package: other ranks, and the parts of a dry run."""

    spare: "_Spare"

    def __new__(cls, args: Any, *_: Any, env: Mapping[str, str] | None = None, **__: Any) -> Any:
        # `-m` has the name of the package, or of the file that it runs where Lightning starts another rank.
        if list(args[:2]) != [sys.executable, "-m"] or args[2] not in ("remit_lit", "remit_lit.__main__"):
            return super().__new__(cls)
        return _Forked(cls.spare.take(list(args[3:]), dict(env or {})), args)


class _Spare:
    """A process forked before a command began, for another one: it has the imports and nothing of the first's state."""

    def __init__(self) -> None:
        receiver, self._sender = multiprocessing.Pipe(duplex=False)
        self._process = multiprocessing.get_context("fork").Process(target=self._wait, args=(receiver,))
        self._process.start()
        receiver.close()

    def take(self, arguments: list[str], environment: dict[str, str]) -> BaseProcess:
        """The process, which runs a command now; where it does so already, one that is forked here and now."""
        if self._sender.closed:
            process = multiprocessing.get_context("fork").Process(target=_part, args=(arguments, environment))
            process.start()
            return process
        self._sender.send((arguments, environment))
        self._sender.close()
        return self._process

    def dismiss(self) -> None:
        self._sender.close()

    def _wait(self, receiver: Connection) -> None:
        self._sender.close()
        try:
            arguments, environment = receiver.recv()
        except EOFError:  # nobody needed it
            return
        _part(arguments, environment)


def _part(arguments: list[str], environment: dict[str, str]) -> None:
    _take_environment(environment)
    _command(arguments)


def _take_environment(environment: Mapping[str, str]) -> None:
    from lightning.fabric.utilities.rank_zero import _get_rank, rank_zero_only

    os.environ.clear()
    os.environ.update(environment)
    # Lightning reads it when it is imported.
    rank_zero_only.rank = _get_rank() or 0  # type: ignore[attr-defined]
