"""What a path in a config stands for: the contents of a file, of a model, or of prepared rows."""

import glob
import hashlib
from pathlib import Path

from remit_lit.errors import ConfigError
from remit_lit.paths import resolve

_MANIFEST = "manifest.json"


def fingerprint(text: str) -> str | None:
    """Hash of what lies at a path or shell pattern; None where ``text`` names no file, model or rows.

    Rows and checkpoints count by their manifest, which has their fingerprints; score columns beside rows do not.
    """
    try:
        path = Path(resolve(text))
        if (path / _MANIFEST).is_file():
            return _digest([path / _MANIFEST])
        if (path / "config.json").is_file():
            return _digest(sorted(file for file in path.iterdir() if file.is_file()))
        files = [file for name in sorted(glob.glob(text)) if (file := Path(name)).is_file()]
    except (ConfigError, OSError, ValueError):  # no embedded model; too long for a path, or with a null character
        return None
    return _digest(files) if files else None


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}:{file.stat().st_size}:".encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
