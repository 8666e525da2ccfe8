"""Interleaved repeats, peak memory, and one figure with its spread and its bar."""

import gc
import operator
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]

_COMPARE = {">=": operator.ge, "<=": operator.le}
_SAMPLE_SECONDS = 0.002


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        name: what is measured.
        value: median.
        low: smallest of the repeats.
        high: largest of the repeats.
        bar: what it must reach, as ``">= 1.00"``; None where it is only reported.
        note: what the ratio is made of, with units.
    """

    name: str
    value: float
    low: float
    high: float
    bar: str | None
    note: str

    @property
    def met(self) -> str:
        """yes, MISSED, or reported."""
        if self.bar is None:
            return "reported"
        sign, limit = self.bar.split()
        return "yes" if _COMPARE[sign](round(self.value, 2), float(limit)) else "MISSED"


def ratio(name: str, top: list[float], bottom: list[float], bar: str | None, note: str) -> Figure:
    """Ratio of medians; its spread is that of the repeats' own ratios."""
    each = [a / b for a, b in zip(top, bottom, strict=True)]
    return Figure(name, statistics.median(top) / statistics.median(bottom), min(each), max(each), bar, note)


def interleave(variants: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Each variant's measurements; one round of all variants after the other, after a round that is thrown away."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for repeat in range(repeats + 1):
        for name, measure in variants.items():
            value = measure()
            if repeat:
                found[name].append(value)
    return found


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of ``work``."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_extra_bytes(work: Callable[[], object]) -> float:
    """How far the resident memory of this process rises above its start while ``work`` runs."""
    gc.collect()
    process = psutil.Process()
    start = process.memory_info().rss
    peak, done = start, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, process.memory_info().rss)
            time.sleep(_SAMPLE_SECONDS)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        work()
    finally:
        done.set()
        thread.join()
    return float(max(peak, process.memory_info().rss) - start)
