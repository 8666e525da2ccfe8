"""What runs jobs: processes of this machine, or a cluster."""

from collections.abc import Collection
from types import TracebackType
from typing import Protocol

from remit_lit.jobs.job import Job


class Crew(Protocol):
    """Starts jobs and tells which ended. It is used within its context."""

    @property
    def running(self) -> Collection[Job]:
        """Jobs that were started and have not ended."""
        ...

    def start(self, job: Job) -> None:
        """Start a job now, or put it where it will be started.

        Raises:
            ConfigError: the settings of the crew are at fault.
        """
        ...

    def wait(self) -> list[tuple[Job, str]]:
        """Until some jobs ended: those, each with what ended it where it could not say so itself."""
        ...

    def __enter__(self) -> "Crew": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
