"""Whether rows hold several documents: the host knows it; transformers would ask the device in each forward pass."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_known: bool | None = None
_look: Callable[[Tensor], Tensor | None] | None = None


@contextmanager
def packing_known(packed: bool | None) -> Iterator[None]:
    """Within, transformers takes ``packed`` for what it would find in the position ids; None lets it look."""
    global _known
    _install()
    before, _known = _known, packed
    try:
        yield
    finally:
        _known = before


def _packed_sequence_indices(position_ids: Tensor) -> Tensor | None:
    """Number of each token's document in its row, [batch, time]; None where every row is one document."""
    if _known is None:
        assert _look is not None
        return _look(position_ids)
    if not _known:
        return None
    return (torch.diff(position_ids, prepend=position_ids[:, :1] - 1, dim=-1) != 1).cumsum(-1)


def _install() -> None:
    """Have transformers ask here; as late as a model runs, since its module takes seconds to import."""
    global _look
    if _look is None:
        import transformers.masking_utils as masking

        _look = masking.find_packed_sequence_indices
        masking.find_packed_sequence_indices = _packed_sequence_indices
