"""The page of ``inspect``, in the shell that all pages share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remit_lit.pages.page import render as render_page

_ASSETS = Path(__file__).parent / "page"
# In the order in which they are read: later ones use what earlier ones define.
_SCRIPTS = ("data.js", "scale.js", "card.js", "text.js", "search.js", "tops.js", "charts.js", "main.js")


def render(contents: Mapping[str, Any]) -> str:
    """The page of these contents."""
    return render_page("Weights of tokens", contents, _ASSETS, _SCRIPTS)
