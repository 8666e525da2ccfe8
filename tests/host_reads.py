"""Where a run on a device would wait for it: reads of device tensors by the host, found without a device.

Tensors are told apart by where they come from. A tensor is on the device once it was moved there (``.to(device)``) or
made there (``device=``), and so is what is computed from such a tensor; all others are the host's.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_ATEN = torch.ops.aten
# Their result's size or value depends on values, so that they wait for the device.
_WAITING = {
    _ATEN._local_scalar_dense.default,
    _ATEN.is_nonzero.default,
    _ATEN.nonzero.default,
    _ATEN.masked_select.default,
    _ATEN.equal.default,
    _ATEN.bincount.default,
    _ATEN.repeat_interleave.Tensor,
    _ATEN._unique2.default,
    _ATEN.unique_dim.default,
    _ATEN.unique_consecutive.default,
}
_INDEXING = {_ATEN.index.Tensor, _ATEN.index_put.default, _ATEN.index_put_.default, _ATEN._index_put_impl_.default}
# On a CPU these read memory without an operation that a dispatch mode could see.
_READING = {Tensor.tolist, Tensor.numpy, Tensor.cpu}
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Read:
    """One wait of the host.

    Attributes:
        what: the operation.
        stack: of calls, the innermost last, as ``file:line function``.
    """

    what: str
    stack: tuple[str, ...]

    def __str__(self) -> str:
        own = [call for call in self.stack if call.startswith("remit_lit")]
        return f"{self.what} in {self.stack[-1]}" + (f", from {own[-1]}" if own and own[-1] != self.stack[-1] else "")


@dataclass
class HostReads:
    """The reads so far, while :meth:`counting` is entered."""

    found: list[Read] = field(default_factory=list)
    _on_device: dict[int, StorageWeakRef] = field(default_factory=dict)

    @contextmanager
    def counting(self) -> Iterator["HostReads"]:
        with _Functions(self), _Operations(self):
            yield self

    def mark(self, result: Any) -> None:
        for tensor in _tensors(result):
            reference = StorageWeakRef(tensor.untyped_storage())
            self._on_device[reference.cdata] = reference  # while it lives, no other storage has this number

    def holds(self, value: Any) -> bool:
        return any(tensor.untyped_storage()._cdata in self._on_device for tensor in _tensors(value))

    def add(self, what: str) -> None:
        calls = (frame for frame in traceback.extract_stack() if not frame.filename.endswith("host_reads.py"))
        names = (f"{_short(call.filename)}:{call.lineno} {call.name}" for call in calls)
        self.found.append(Read(what, tuple(name for name in names if "torch/" not in name)))


class _Functions(TorchFunctionMode):
    """Sees calls from Python: moves to a device, what is made on one, and reads that are no operations on a CPU."""

    def __init__(self, reads: HostReads) -> None:
        super().__init__()
        self.reads = reads

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _READING and self.reads.holds(args[0]):
            self.reads.add(func.__name__)
        result = func(*args, **kwargs)
        devices = [value for value in (*args[1:], *kwargs.values()) if isinstance(value, torch.device)]
        if devices:
            if func is torch.tensor and not self.reads.holds(args):
                self.reads.add("upload of unpinned memory")
            self.reads.mark(result)
        return result


class _Operations(TorchDispatchMode):
    """Sees every operation, those of backward too."""

    def __init__(self, reads: HostReads) -> None:
        super().__init__()
        self.reads = reads

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = (args, kwargs)
        on_device = self.reads.holds(given)
        if on_device and func in _WAITING:
            self.reads.add(str(func))
        if on_device and func in _INDEXING:
            masks = [index for index in args[1] if index is not None and index.dtype in (torch.bool, torch.uint8)]
            if masks and not (func is not _ATEN.index.Tensor and args[2].numel() == 1):  # which is masked_fill
                self.reads.add(f"{func} by a mask")
        if func is _ATEN.copy_.default and self.reads.holds(args[0]) != self.reads.holds(args[1]) and args[1].ndim:
            self.reads.add("copy between host and device")
        result = func(*args, **kwargs)
        if on_device:
            self.reads.mark(result)
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor) and leaf.layout is torch.strided)


def _short(filename: str) -> str:
    path = Path(filename)
    if path.is_relative_to(_ROOT):
        return str(path.relative_to(_ROOT))
    return filename.partition("site-packages/")[2] or path.name
