"""How long parts of a run take on their device, without waiting for it."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Stopwatch:
    """Adds up the seconds that a device spends on what is enqueued within ``running``; on a CPU, wall-clock time."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._pending: deque[tuple[Any, Any]] = deque()  # events of parts that the device may still be at

    @contextmanager
    def running(self, device: torch.device) -> Iterator[None]:
        """Count what happens within."""
        if device.type == "cpu":
            start = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - start
            return
        begin, end = (torch.Event(device, enable_timing=True) for _ in range(2))
        begin.record()
        yield
        end.record()
        self._pending.append((begin, end))
        while self._pending and self._pending[0][1].query():
            self._take()

    @property
    def seconds(self) -> float:
        """So far; waits for what is still to be done."""
        while self._pending:
            self._pending[0][1].synchronize()
            self._take()
        return self._seconds

    def _take(self) -> None:
        begin, end = self._pending.popleft()
        self._seconds += begin.elapsed_time(end) / 1000
