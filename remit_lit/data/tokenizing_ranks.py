"""Processes on several nodes that tokenise shards: one process hands them out over TCP, all others come to it."""

import json
import os
import pickle
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from multiprocessing import AuthenticationError, get_context
from multiprocessing.connection import Client, Connection, Listener
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue

from remit_lit.data.segments import Segment
from remit_lit.data.tokenizing import Shard, Tokenizing
from remit_lit.data.tokenizing_workers import StartWorkers, Workers, answer, end_with, settle
from remit_lit.errors import ConfigError, DataError

_LOOK_EVERY = 0.5  # seconds
# So long, in seconds, a process waits for the first one's address, and the first one at its end for all that were to
# come: nodes of a cluster read Python and its packages from a network disk at different speeds.
_PATIENCE = 600.0

_Wanted = tuple[bytes, Shard, "Future[list[Segment]]"]


@contextmanager
def first_rank(address: Path, ranks: int, number: int) -> Iterator[StartWorkers]:
    """Within, processes of all ranks tokenise what this one hands out, its own among them.

    Args:
        address: a file on a disk that all nodes have, by which they find this process. It holds a secret, without which
            none is let in, and only its user can read it.
        ranks: how many there are, this one among them.
        number: of processes of each.
    """
    processes = _started(address, number)  # before there are threads, which a fork would not copy
    server = _Server(address, ranks * number)
    try:
        yield lambda job: _RankWorkers(job, server)
    finally:
        server.close()
        address.unlink(missing_ok=True)
        for process in processes:
            process.join()


def other_rank(address: Path, number: int) -> None:
    """Tokenise with ``number`` processes what the first rank hands out, until it closes."""
    for process in _started(address, number):
        process.join()


def _started(address: Path, number: int) -> Sequence[BaseProcess]:
    fork = get_context("fork")
    processes = [fork.Process(target=_work, args=(address, os.getpid())) for _ in range(number)]
    for process in processes:
        process.start()
    return processes


class _Server:
    """Hands shards to the processes that connect, one at a time to each.

    Args:
        address: the file to write.
        expected: number of processes that come.
    """

    def __init__(self, address: Path, expected: int) -> None:
        key = secrets.token_bytes(32)
        self._listener = Listener(("", 0), backlog=1024, authkey=key)
        self._wanted: SimpleQueue[_Wanted | None] = SimpleQueue()
        self._come = threading.Semaphore(0)
        self.expected = expected
        aside = address.with_name(f"{address.name}.new")
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"host": socket.gethostname(), "port": self._listener.address[1], "key": key.hex()}, file)
        aside.replace(address)
        threading.Thread(target=self._accept, daemon=True).start()

    def submit(self, job: bytes, shard: Shard) -> "Future[list[Segment]]":
        """Have the next process that is free read a shard; ``job`` is pickled."""
        future: Future[list[Segment]] = Future()
        self._wanted.put((job, shard, future))
        return future

    def close(self) -> None:
        """End the processes once they have read what they are reading; those that come late are told so, too."""
        end = time.monotonic() + _PATIENCE
        for _ in range(self.expected):
            self._wanted.put(None)
        for _ in range(self.expected):
            if not self._come.acquire(timeout=max(0.0, end - time.monotonic())):
                break
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except (AuthenticationError, EOFError, ConnectionError):  # a stranger
                continue
            except OSError:  # closed
                return
            self._come.release()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        known: bytes | None = None
        with connection:
            while (wanted := self._wanted.get()) is not None:
                job, shard, future = wanted
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    connection.send((None if job is known else job, shard))
                    known, found = job, connection.recv()
                except (EOFError, OSError):
                    future.set_exception(
                        DataError(
                            "num_workers: a process was killed while it tokenized; was there too little memory for "
                            "so many?"
                        )
                    )
                    return
                settle(future, found)


class _RankWorkers(Workers):
    def __init__(self, job: Tokenizing, server: _Server) -> None:
        try:
            self._job = pickle.dumps(job)
        except Exception as error:  # whatever an attribute's class raises
            raise ConfigError(f"{job.field}: a source cannot be sent to other processes ({error})") from error
        self._server = server

    @property
    def number(self) -> int:
        """Of processes that come, which they do one after the other."""
        return self._server.expected

    def submit(self, shard: Shard) -> "Future[list[Segment]]":
        """Have a shard read."""
        return self._server.submit(self._job, shard)


def _work(address: Path, parent: int) -> None:
    end_with(parent)
    with _connected(address) as connection:
        job: Tokenizing | None = None
        while True:
            try:
                news, shard = connection.recv()
            except EOFError:
                return
            job = job if news is None else pickle.loads(news)
            assert job is not None
            connection.send(answer(job, shard))


def _connected(address: Path) -> Connection:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            told = json.loads(address.read_text())
            return Client((told["host"], told["port"]), authkey=bytes.fromhex(told["key"]))
        except (FileNotFoundError, ConnectionError):  # not there yet, or of a process that is no more
            if time.monotonic() > end:
                raise
        time.sleep(_LOOK_EVERY)
