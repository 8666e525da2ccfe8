"""What the processes of one command tell each other.

Each is a rank, and all of them call these functions in the same order. A process alone is rank 0 of one.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch.distributed as dist

from remit_lit.errors import ConfigError, DataError, NonFiniteError

T = TypeVar("T")
_TOLD_AS_THEY_ARE = (ConfigError, DataError, NonFiniteError)


def world_size() -> int:
    """How many ranks there are; 1 before a process group is made."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which rank this is; 0 before a process group is made."""
    return dist.get_rank() if dist.is_initialized() else 0


def dealt(numbers: Sequence[int]) -> Sequence[int]:
    """This rank's share of ``numbers``, dealt like cards; all of them for a process alone."""
    return numbers[rank() :: world_size()]


def on_all(work: Callable[[], T]) -> list[T]:
    """What ``work`` gives on each rank, by rank; it can be pickled.

    Every rank waits for the others. Where ``work`` raises on one, no rank is left waiting: that one raises its error,
    and each that has none of its own raises the first of theirs, a user's mistake as it is and any other as a
    RuntimeError that names the rank.
    """
    if world_size() == 1:
        return [work()]
    result: T | None = None
    error: Exception | None = None
    try:
        result = work()
    except Exception as raised:
        error = raised
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, (result, None if error is None else _told(error)))
    if error is not None:
        raise error
    for _, told in found:
        if told is not None:
            raise told
    return [given for given, _ in found]


def on_first(work: Callable[[], T]) -> T:
    """What ``work`` gives on rank 0, which alone does it; its error is raised on every rank."""
    result: Any = on_all(lambda: None if rank() else work())[0]
    return result


def merged(work: Callable[[], dict[int, T]]) -> dict[int, T]:
    """The entries that the ranks found, in the order of their keys; errors as of :func:`on_all`."""
    found = {key: value for part in on_all(work) for key, value in part.items()}
    return dict(sorted(found.items()))


def _told(error: Exception) -> Exception:
    """What other ranks raise for an error of this one."""
    for kind in _TOLD_AS_THEY_ARE:
        if isinstance(error, kind):
            return kind(str(error))
    return RuntimeError(f"rank {rank()}: {type(error).__name__}: {error}")
