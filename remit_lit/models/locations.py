"""Where a model or tokenizer is: embedded in the package, in a local directory, or on a hub."""

import re
from pathlib import Path
from typing import Literal, get_args

import remit_lit.lab
from remit_lit.errors import ConfigError

_EMBEDDED = "lab/"
Asset = Literal["base", "sft", "reference", "bytes"]


def resolve(path: str) -> str:
    """The directory of an embedded name (``lab/base``, ``lab/bytes``, ...); any other path as it is."""
    return str(asset_path(path.removeprefix(_EMBEDDED))) if path.startswith(_EMBEDDED) else path


def check_model_path(field: str, path: str) -> None:
    """Refuse what is neither a directory with a model nor the form of a hub id, without asking a hub.

    Raises:
        ConfigError: naming ``field``.
    """
    directory = Path(resolve(path))
    if directory.is_dir():
        if not (directory / "config.json").exists():
            hint = f"; did you mean {path.rstrip('/')}/model?" if (directory / "model" / "config.json").exists() else ""
            raise ConfigError(f"{field}.path: {path!r} is not a model directory (it has no config.json){hint}")
    elif not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", path):
        raise ConfigError(f"{field}.path: {path!r} is neither a directory nor a hub id (owner/name)")


def asset_path(name: str) -> Path:
    """The packaged directory of ``name``.

    Args:
        name: ``base`` (before mid-training), ``sft`` (the mid-trained model after supervised fine-tuning),
            ``reference`` (the same after RLVR), or ``bytes`` (no model, but a tokenizer that reads any text).

    Raises:
        ConfigError: there is no such directory.
    """
    if name not in get_args(Asset):
        embedded = ", ".join(f"{_EMBEDDED}{asset}" for asset in get_args(Asset))
        raise ConfigError(f"path: got {_EMBEDDED + name!r}; the embedded models are {embedded}")
    return Path(remit_lit.lab.__file__).parent / "assets" / name
