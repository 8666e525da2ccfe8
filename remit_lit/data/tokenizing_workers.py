"""Processes that tokenise shards, whose segments come in order."""

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from types import TracebackType

from remit_lit.data.segments import Segment
from remit_lit.data.tokenizing import Shard, Tokenizing


class Workers:
    """Processes that tokenise shards; one does it in this process.

    Args:
        job: what they do, which they inherit by a fork: sources and tokenizers need not be picklable.
        number: of processes.
    """

    def __init__(self, job: Tokenizing, number: int) -> None:
        job.directory.mkdir(parents=True, exist_ok=True)
        self.job, self._number = job, number
        self._pool = None
        if number > 1:
            fork = multiprocessing.get_context("fork")
            self._pool = ProcessPoolExecutor(number, fork, _begin, (job, os.getpid()))

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def in_order(self, next_shard: Callable[[int], Shard | None]) -> Iterator[tuple[Shard, list[Segment]]]:
        """Shards and their segments, in the order in which they were asked for.

        Args:
            next_shard: the next one to read, given how many are being read; None for none now, and for none at all
                where none is being read.
        """
        pending: deque[tuple[Shard, Future[list[Segment]]]] = deque()
        try:
            while True:
                while len(pending) < self._number and (shard := next_shard(len(pending))) is not None:
                    pending.append((shard, self._submit(shard)))
                if not pending:
                    return
                shard, future = pending.popleft()
                yield shard, future.result()
        finally:
            for _, future in pending:
                if not future.cancel():
                    future.add_done_callback(_remove)

    def _submit(self, shard: Shard) -> "Future[list[Segment]]":
        if self._pool is not None:
            return self._pool.submit(_work, shard)
        future: Future[list[Segment]] = Future()
        future.set_result(self.job.segments(shard))
        return future


_job: Tokenizing  # of a worker process


def _begin(job: Tokenizing, parent: int) -> None:
    global _job
    _job = job
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process where its parent is killed, which would leave it waiting for work."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _work(shard: Shard) -> list[Segment]:
    return _job.segments(shard)


def _remove(future: "Future[list[Segment]]") -> None:
    """Remove what was read in vain."""
    if not future.cancelled() and future.exception() is None:
        for segment in future.result():
            segment.remove()
