"""Tasks of a Ray cluster that tokenise shards."""

import logging
import os
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from remit_lit.data.segments import Segment
from remit_lit.data.tokenizing import Shard, Tokenizing
from remit_lit.data.tokenizing_workers import StartWorkers, Workers, answer, settle
from remit_lit.errors import ConfigError


def ray_workers(number: int) -> StartWorkers:
    """What starts ``number`` tasks at once, of one CPU each, on the cluster that ``RAY_ADDRESS`` names or is here.

    Its nodes must have the disk that the rows are written to, at the same path, and this package.

    Raises:
        ConfigError: there is no cluster.
        ModuleNotFoundError: Ray is not installed.
    """
    import ray

    address = os.environ.get("RAY_ADDRESS", "auto")
    try:
        ray.init(address, ignore_reinit_error=True, logging_level=logging.WARNING)
    except ConnectionError as error:
        raise ConfigError(
            f"launcher: no Ray cluster answers at {address}; set RAY_ADDRESS, or start one with `ray start --head`"
        ) from error
    return lambda job: _RayWorkers(job, number)


class _RayWorkers(Workers):
    def __init__(self, job: Tokenizing, number: int) -> None:
        import ray

        self._number = number
        self._answer: Any = ray.remote(num_cpus=1)(_answer_in)
        self._job = ray.put(replace(job, directory=job.directory.absolute()))

    @property
    def number(self) -> int:
        """Of tasks at once; Ray has those wait for which there is no CPU."""
        return self._number

    def submit(self, shard: Shard) -> "Future[list[Segment]]":
        """Have a shard read."""
        future: Future[list[Segment]] = Future()
        answered: Future[Any] = self._answer.remote(str(Path.cwd()), self._job, shard).future()
        future.set_running_or_notify_cancel()
        answered.add_done_callback(partial(_settle, future))
        return future


def _answer_in(directory: str, job: Tokenizing, shard: Shard) -> list[Segment] | Exception:
    """As :func:`answer` does, in the directory in which the command was given: paths may begin there."""
    os.chdir(directory)
    return answer(job, shard)


def _settle(future: "Future[list[Segment]]", answered: "Future[Any]") -> None:
    """With Ray's own error where it lost the task, with the answer otherwise."""
    error = answered.exception()
    if error is not None:
        future.set_exception(error)
    else:
        settle(future, answered.result())
