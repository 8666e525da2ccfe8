"""Arrays of a page: all in one compressed block, equal ones once."""

import base64
import gzip
from typing import Any

import numpy as np
from torch import Tensor

_TYPES = {"f4": np.float32, "u4": np.uint32, "u1": np.uint8}
_ALIGNED = 4


class Arrays:
    """Collects arrays, and says where each lies: ``{"at": byte, "type": "f4", "u4" or "u1", "length": values}``."""

    def __init__(self) -> None:
        self._block = bytearray()
        self._places: dict[bytes, int] = {}

    def add(self, values: Tensor | np.ndarray, kind: str) -> dict[str, Any]:
        """Take in an array of any shape, row by row."""
        whole: np.ndarray = values.cpu().numpy() if isinstance(values, Tensor) else values
        content = whole.astype(_TYPES[kind]).tobytes()
        if content not in self._places:
            self._places[content] = len(self._block)
            self._block += content + bytes(-len(content) % _ALIGNED)
        return {"at": self._places[content], "type": kind, "length": whole.size}

    def packed(self) -> str:
        """The block of all arrays, little-endian, compressed by gzip, in Base64."""
        return base64.b64encode(gzip.compress(bytes(self._block), mtime=0)).decode()
