"""One HTML file of what a page shows: its script, its style and its data are all inside."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_SHARED = Path(__file__).parent / "shared"
_SHARED_SCRIPTS = ("dom.js", "axes.js", "looks.js")
_ESCAPED = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def render(title: str, contents: Mapping[str, Any], assets: Path, scripts: Sequence[str]) -> str:
    """The page. Data are JSON that cannot end its element, and no script but the page's own may run.

    Args:
        title: of the document.
        contents: what the script reads as ``data``, JSON values.
        assets: folder of the page's own ``body.html``, ``style.css`` and scripts.
        scripts: their names, in the order in which they are read; later ones use what earlier ones define.
    """
    style = _read(_SHARED / "style.css") + _read(assets / "style.css")
    paths = [*(_SHARED / name for name in _SHARED_SCRIPTS), *(assets / name for name in scripts)]
    script = "\n".join(map(_read, paths))
    parts = {
        "policy": f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}",
        "title": html.escape(title),
        "style": style,
        "body": _read(assets / "body.html"),
        "script": script,
        "data": escaped(contents),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _read(_SHARED / "page.html"))


def escaped(value: Any) -> str:
    """``value`` as JSON without characters that mean something in HTML or end a line in JavaScript."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPED)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """As a content security policy names an inline element."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
