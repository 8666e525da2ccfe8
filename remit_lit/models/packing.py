"""Whether rows hold several documents: the host knows it; transformers would ask the device in each forward pass."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import transformers.masking_utils as masking
from torch import Tensor

_look = masking.find_packed_sequence_indices
_known: bool | None = None


@contextmanager
def packing_known(packed: bool | None) -> Iterator[None]:
    """Within, transformers takes ``packed`` for what it would find in the position ids; None lets it look."""
    global _known
    before, _known = _known, packed
    try:
        yield
    finally:
        _known = before


def _packed_sequence_indices(position_ids: Tensor) -> Tensor | None:
    """Number of each token's document in its row, [batch, time]; None where every row is one document."""
    if _known is None:
        return _look(position_ids)
    if not _known:
        return None
    return (torch.diff(position_ids, prepend=position_ids[:, :1] - 1, dim=-1) != 1).cumsum(-1)


masking.find_packed_sequence_indices = _packed_sequence_indices
