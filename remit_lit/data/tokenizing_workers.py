"""Processes that tokenise shards, whose segments come in order."""

import multiprocessing
import os
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from types import TracebackType

from remit_lit.data.segments import Segment
from remit_lit.data.tokenizing import Shard, Tokenizing
from remit_lit.errors import ConfigError, DataError


class Workers(ABC):
    """What tokenises shards, several at once, and returns their segments in order."""

    def __enter__(self) -> "Workers":
        return self

    def __exit__(  # noqa: B027
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is left to do."""

    @property
    @abstractmethod
    def number(self) -> int:
        """How many shards can be read at once, at least 1."""

    @abstractmethod
    def submit(self, shard: Shard) -> "Future[list[Segment]]":
        """Have a shard read."""

    def in_order(self, next_shard: Callable[[int], Shard | None]) -> Iterator[tuple[Shard, list[Segment]]]:
        """Shards and their segments, in the order in which they were asked for.

        Args:
            next_shard: the next one to read, given how many are being read; None for none now, and for none at all
                where none is being read.
        """
        pending: deque[tuple[Shard, Future[list[Segment]]]] = deque()
        try:
            while True:
                while len(pending) < self.number and (shard := next_shard(len(pending))) is not None:
                    pending.append((shard, self.submit(shard)))
                if not pending:
                    return
                shard, future = pending.popleft()
                yield shard, future.result()
        finally:
            for _, future in pending:
                if not future.cancel():
                    future.add_done_callback(_remove)


StartWorkers = Callable[[Tokenizing], Workers]
"""Starts what tokenises the shards of a job, which lasts as long as its context."""


class LocalWorkers(Workers):
    """Processes of this machine; one does it in this process.

    Args:
        job: what they do, which they inherit by a fork: sources and tokenizers need not be picklable.
        number: of processes.
    """

    def __init__(self, job: Tokenizing, number: int) -> None:
        self._job, self._number = job, number
        self._pool = None
        if number > 1:
            fork = multiprocessing.get_context("fork")
            self._pool = ProcessPoolExecutor(number, fork, _begin, (job, os.getpid()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for what is being read, and end the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    @property
    def number(self) -> int:
        """Of processes."""
        return self._number

    def submit(self, shard: Shard) -> "Future[list[Segment]]":
        """Have a shard read."""
        if self._pool is not None:
            return self._pool.submit(_work, shard)
        future: Future[list[Segment]] = Future()
        future.set_result(self._job.segments(shard))
        return future


_job: Tokenizing  # of a worker process


def _begin(job: Tokenizing, parent: int) -> None:
    global _job
    _job = job
    end_with(parent)


def end_with(parent: int) -> None:
    """End this process where its parent is killed, which would leave it waiting for work."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(shard: Shard) -> list[Segment]:
    return _job.segments(shard)


def answer(job: Tokenizing, shard: Shard) -> list[Segment] | Exception:
    """The segments of a shard, or the error, in a form that can be sent to another machine."""
    try:
        return job.segments(shard)
    except (ConfigError, DataError) as error:
        return error
    except Exception:  # of some library, whose errors need not survive the way
        return RuntimeError(traceback.format_exc())


def settle(future: "Future[list[Segment]]", answered: list[Segment] | Exception) -> None:
    """Let a future have what :func:`answer` returned."""
    if isinstance(answered, Exception):
        future.set_exception(answered)
    else:
        future.set_result(answered)


def _remove(future: "Future[list[Segment]]") -> None:
    """Remove what was read in vain."""
    if not future.cancelled() and future.exception() is None:
        for segment in future.result():
            segment.remove()
