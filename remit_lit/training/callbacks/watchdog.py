"""A dead or hanging rank ends the run on all ranks, with a message that names it."""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import psutil

from remit_lit.errors import ConfigError, DataError, NonFiniteError, Preempted, require_range
from remit_lit.files import write_whole
from remit_lit.runs.warning_signals import WARNINGS

# Distinct from a user's mistake (2) and from preemption (75).
EXIT_CODE = 76
_BEAT_SECONDS = 1.0
# How often Lightning looks for dead children from then on. It would kill rank 0 before that could say who died.
_BACKSTOP_SECONDS = 600


@dataclass(frozen=True)
class Heartbeat:
    """What a rank tells the others through a file in the run folder.

    Attributes:
        rank: of the process.
        host: where it runs.
        pid: its number there.
        batches: those begun and ended, of any kind.
        time: of writing, seconds since 1970.
    """

    rank: int
    host: str
    pid: int
    batches: int
    time: float

    def __str__(self) -> str:
        return f"rank {self.rank} (process {self.pid} on {self.host})"

    @property
    def is_gone(self) -> bool:
        """Whether it ended; of a process of this host."""
        try:
            return psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


class Watchdog(pl.Callback):
    """End all ranks of a run when one of them has died or, in training, hangs; without effect on one process.

    Ranks tell each other of their progress by files in ``run_dir/heartbeats``, so the run folder must be shared.

    Args:
        timeout: seconds without progress after which the run ends; more than the longest batch, checkpoint or
            evaluation. Null never ends a run for that.
    """

    def __init__(self, timeout: float | None = 1800.0) -> None:
        if timeout is not None:
            require_range("watchdog.timeout", timeout, 0.0, float("inf"))
        self.timeout = timeout
        self._progress, self._changed, self._is_training = 0, time.monotonic(), False
        self._stop = threading.Event()
        self._directory, self._rank, self._ranks = Path(), 0, 1
        self._neighbours: list[Heartbeat] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if trainer.world_size == 1 or stage != "fit":
            return
        self._directory = Path(trainer.default_root_dir, "heartbeats")
        self._directory.mkdir(parents=True, exist_ok=True)
        self._rank, self._ranks = trainer.global_rank, trainer.world_size
        self._beat()
        trainer.strategy.barrier()  # what an earlier run left is overwritten by now
        host = socket.gethostname()
        self._neighbours = [beat for beat in self._beats() if beat.host == host and beat.rank != self._rank]
        self._stop.clear()
        for thread in threading.enumerate():
            if thread.name == "child-process-observer":
                thread._sleep_period = _BACKSTOP_SECONDS  # type: ignore[attr-defined]
        threading.Thread(target=self._watch, daemon=True).start()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._advance()
        self._is_training = True  # what comes before, such as loading models, may take any time

    def on_train_batch_start(self, *_: Any) -> None:
        self._advance()

    def on_train_batch_end(self, *_: Any) -> None:
        self._advance()

    def on_validation_batch_start(self, *_: Any) -> None:
        self._advance()

    def on_validation_end(self, *_: Any) -> None:
        self._advance()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop.set()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._stop.set()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Name the rank that is gone: all that the others see of it is a broken connection."""
        self._stop.set()
        if self._neighbours and not isinstance(exception, (ConfigError, DataError, NonFiniteError, Preempted)):
            time.sleep(_BEAT_SECONDS)  # a process that is being killed may still be there
            self._report_gone()

    def _advance(self) -> None:
        self._progress, self._changed = self._progress + 1, time.monotonic()

    def _beat(self) -> None:
        beat = Heartbeat(self._rank, socket.gethostname(), os.getpid(), self._progress, time.time())
        path = self._directory / f"rank-{self._rank:05d}.json"
        with contextlib.suppress(OSError):  # a full disk must not end the run
            write_whole(path, json.dumps(asdict(beat)))

    def _beats(self) -> list[Heartbeat]:
        beats = []
        for rank in range(self._ranks):
            with contextlib.suppress(OSError, ValueError, TypeError):
                content = (self._directory / f"rank-{rank:05d}.json").read_text()
                beats.append(Heartbeat(**json.loads(content)))
        return beats

    def _watch(self) -> None:
        while not self._stop.wait(_BEAT_SECONDS):
            self._beat()
            if WARNINGS.received and not WARNINGS.is_deferred and self._gone:
                WARNINGS.leave()  # so did the others
            if self._report_gone():
                os._exit(EXIT_CODE)
            if self._is_training and self.timeout is not None and time.monotonic() - self._changed > self.timeout:
                self._end()

    @property
    def _gone(self) -> list[Heartbeat]:
        return [beat for beat in self._neighbours if beat.is_gone]

    def _report_gone(self) -> bool:
        gone = self._gone
        for beat in gone:
            self._print(f"{beat} has died; the run ends on all ranks")
        return bool(gone)

    def _end(self) -> None:
        time.sleep(2 * _BEAT_SECONDS)  # so that every rank that still can has written its progress
        beats = self._beats()
        last = max(beat.batches for beat in beats)
        silent = [beat for beat in beats if time.time() - beat.time > 3 * _BEAT_SECONDS]
        late = silent or [b for b in beats if b.batches < last]
        named = ", ".join(map(str, late)) or "every rank"
        self._print(f"{named} made no progress for {self.timeout:.0f} s; the run ends on all ranks")
        for beat in beats:
            if beat in late and beat.rank in (neighbour.rank for neighbour in self._neighbours):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(beat.pid, signal.SIGKILL)
        os._exit(EXIT_CODE)

    def _print(self, message: str) -> None:
        print(f"error: rank {self._rank}: {message}", file=sys.stderr, flush=True)
