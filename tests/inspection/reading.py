"""What a page of ``inspect`` holds, read from its HTML."""

import base64
import gzip
import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

_TYPES = {"f4": "<f4", "u4": "<u4", "u1": "u1"}


class _Elements(HTMLParser):
    """Names of the elements as a browser finds them, and the text of the element ``data``."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.data = ""
        self._is_data = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self._is_data = ("id", "data") in attrs

    def handle_endtag(self, tag: str) -> None:
        self._is_data = False

    def handle_data(self, data: str) -> None:
        if self._is_data:
            self.data += data


@dataclass(frozen=True)
class Shown:
    """A page.

    Attributes:
        html: of it.
        elements: names of its elements in order.
        data: what its script reads.
    """

    html: str
    elements: list[str]
    data: dict[str, Any]

    def array(self, place: dict[str, Any]) -> np.ndarray:
        """Values for each token, [rows, time]."""
        block = gzip.decompress(base64.b64decode(self.data["arrays"]))
        values = np.frombuffer(block, _TYPES[place["type"]], place["length"], place["at"])
        return values.reshape(-1, self.data["time"])

    def predicted(self, place: dict[str, Any]) -> np.ndarray:
        """Values by the position that predicts the token, as a batch has them, [rows, time]; 0 at a row's end."""
        values = self.array(place)
        return np.concatenate([values[:, 1:], np.zeros_like(values[:, :1])], axis=1)

    def weights(self, strategy: int = 0, policy: int = 0) -> np.ndarray:
        """By the position that predicts the token, [rows, time]."""
        return self.predicted(self.data["strategies"][strategy]["weighed"][policy]["weights"])

    def text(self, row: int, field: str = "content") -> str:
        """The tokens of a row, one after another."""
        return "".join(self.data["vocabulary"][field][token] for token in self.array(self.data["tokens"])[row])


def read_page(path: Path) -> Shown:
    html = path.read_text(encoding="utf-8")
    assert re.match(r"<!doctype html>", html)
    elements = _Elements()
    elements.feed(html)
    return Shown(html, elements.names, json.loads(elements.data))
