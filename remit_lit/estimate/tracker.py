"""Bytes that tensors hold, by what they are for, while computing with tensors that have shapes and no values."""

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Bytes = dict[str, int]
NEEDS_VALUES = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException)


class MemoryTracker(TorchDispatchMode):
    """Counts the storages that are alive under :meth:`fake_tensors`, each once, while anything refers to it.

    A storage belongs to the part that was current when it was made. Where code asks for a value, which these tensors
    do not have, a number is 1, a condition is False, and every element is nonzero, which takes most memory.

    Attributes:
        live: bytes alive now, by part.
        peaks: of each watched set of parts, the bytes by part at the moment at which their sum was highest.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live: Counter[str] = Counter()
        self.peaks: dict[frozenset[str], Bytes] = {}
        self._part = ""
        self._parts: dict[int, str] = {}  # of each storage alive

    @contextmanager
    def fake_tensors(self) -> Iterator[None]:
        """Tensors made inside have shapes, types and storages of the right size, but no values."""
        with FakeTensorMode(), self:
            yield

    def begin(self, part: str) -> None:
        """Storages made from now on belong to ``part``."""
        self._part = part

    def watch(self, *parts: str) -> Callable[[], Bytes]:
        """Start to watch the sum of some parts; the result is what it was made of when it was highest."""
        key = frozenset(parts)
        self.peaks[key] = self._snapshot(key)
        return lambda: self.peaks[key]

    def assign(self, tensor: Tensor, part: str) -> None:
        """Let a tensor's storage belong to another part."""
        storage = tensor.untyped_storage()
        old = self._parts[storage._cdata]
        self._parts[storage._cdata] = part
        self.live[old] -= storage.nbytes()
        self.live[part] += storage.nbytes()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return False if args[0].dtype == torch.bool else 1
        if func is torch.ops.aten.nonzero.default:
            result = torch.empty(args[0].numel(), args[0].dim(), dtype=torch.long, device=args[0].device)
        else:
            result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._parts:
            return
        self._parts[key] = self._part
        self.live[self._part] += size
        weakref.finalize(storage, self._forget, key, size)
        for parts, highest in self.peaks.items():
            if self._part in parts and sum(self.live[part] for part in parts) > sum(highest.values()):
                self.peaks[parts] = self._snapshot(parts)

    def _forget(self, key: int, size: int) -> None:
        self.live[self._parts.pop(key)] -= size

    def _snapshot(self, parts: frozenset[str]) -> Bytes:
        return {part: self.live[part] for part in parts}
