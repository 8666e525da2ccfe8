"""A scheduler's warning that the job will end: heard from the start of a command, and answered where it can be."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

import psutil

from remit_lit.errors import Preempted
from remit_lit.runs.folder import global_rank

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# For a process that waits for another in a library, which no Python code can interrupt. Schedulers give 30 s or more.
_GRACE_SECONDS = 10.0


class Warnings:
    """What this process has heard.

    Attributes:
        received: the signal, None so far.
        is_deferred: a training loop answers at the end of its step. Before and after it there is nothing to save, and
            the command ends with ``Preempted`` wherever the signal finds it.
        is_listening: within :meth:`heard`.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.is_deferred = False
        self.is_listening = False
        self._process = os.getpid()

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Listen for as long as the context lasts; in the main thread, which alone can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.received, self.is_deferred, self._process = None, False, os.getpid()
        before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        earlier = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._insist, args=(ours,), daemon=True).start()
        self.is_listening = True
        try:
            yield
        finally:
            self.is_listening = False
            signal.set_wakeup_fd(earlier)
            theirs.close()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker that was forked from this process
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        is_first, self.received = self.received is None, signal.Signals(number)
        if is_first and not self.is_deferred:
            for child in psutil.Process().children():  # ranks that a launcher started here would wait for this one
                with suppress(psutil.NoSuchProcess):
                    child.send_signal(number)
            raise Preempted(self.message)

    @property
    def message(self) -> str:
        """What is said where nothing was saved."""
        assert self.received is not None
        return f"{self.received.name} received outside training; the same command with --resume=true goes on"

    def _insist(self, listener: socket.socket) -> None:
        """End a process that hears nothing: its main thread waits for others, which may have ended on the signal."""
        with listener:
            while heard := listener.recv(1):
                if heard[0] in SIGNALS and not self.is_deferred:
                    self.received = self.received or signal.Signals(heard[0])
                    time.sleep(_GRACE_SECONDS)
                    self.leave()

    def leave(self) -> NoReturn:
        """End this process at once, from any thread, with the exit code that the command line gives."""
        if global_rank():
            os._exit(0)
        print(f"preempted: {self.message}", file=sys.stderr, flush=True)
        os._exit(Preempted.exit_code)


def _be_silent_to_parent() -> None:
    # A forked process inherits the descriptor: a data worker's own SIGTERM would be heard here as the parent's.
    if WARNINGS.is_listening:
        signal.set_wakeup_fd(-1)


WARNINGS = Warnings()
"""Of this process."""
os.register_at_fork(after_in_child=_be_silent_to_parent)
