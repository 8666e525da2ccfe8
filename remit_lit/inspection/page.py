"""One HTML file of what a page shows: its script, its style and its data are all inside."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

_ASSETS = Path(__file__).parent / "page"
# In the order in which they are read: later ones use what earlier ones define.
_SCRIPTS = ("data.js", "scale.js", "card.js", "text.js", "search.js", "tops.js", "charts.js", "main.js")
_ESCAPED = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def render(contents: dict[str, Any]) -> str:
    """The page. Data are JSON that cannot end its element, and no script but the page's own may run."""
    style, script = _read("style.css"), "\n".join(_read(name) for name in _SCRIPTS)
    parts = {
        "policy": f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}",
        "style": style,
        "script": script,
        "data": escaped(contents),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _read("page.html"))


def escaped(value: Any) -> str:
    """``value`` as JSON without characters that mean something in HTML or end a line in JavaScript."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPED)


def _read(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """As a content security policy names an inline element."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
