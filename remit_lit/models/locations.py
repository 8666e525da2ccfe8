"""Where a model or tokenizer is: embedded in the package, in a local directory, or on a hub."""

import re
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal, get_args

import remit_lit.lab
from remit_lit.benchmarks.hub import short_waits
from remit_lit.errors import ConfigError, did_you_mean
from remit_lit.files import is_meant_as_path, near_path

_EMBEDDED = "lab/"
Asset = Literal["base", "sft", "reference", "bytes"]


def resolve(path: str, field: str = "path") -> str:
    """The directory of an embedded name (``lab/base``, ``lab/bytes``, ...); any other path as it is."""
    return str(asset_path(path.removeprefix(_EMBEDDED), field)) if path.startswith(_EMBEDDED) else path


def reading(path: str) -> AbstractContextManager[None]:
    """Within, what is at a path is read: a hub that does not answer is not waited for."""
    return nullcontext() if Path(resolve(path)).exists() else short_waits()


def check_location(field: str, path: str) -> None:
    """Refuse what is neither there nor the form of a hub id, without asking a hub.

    Raises:
        ConfigError: naming ``field``.
    """
    if path.startswith(_EMBEDDED):
        asset_path(path.removeprefix(_EMBEDDED), field)
    elif not Path(path).is_dir() and (is_meant_as_path(path) or not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", path)):
        raise ConfigError(
            f"{field}: {path!r} is neither a directory nor a hub id (owner/name); {near_path(path)}paths are from "
            f"{Path.cwd()}"
        )


def check_model_path(field: str, path: str) -> None:
    """Refuse what is neither a directory with a model nor the form of a hub id, without asking a hub.

    Raises:
        ConfigError: naming ``field``.
    """
    check_location(f"{field}.path", path)
    directory = Path(resolve(path))
    if directory.is_dir() and not (directory / "config.json").exists():
        hint = f"; did you mean {path.rstrip('/')}/model?" if (directory / "model" / "config.json").exists() else ""
        raise ConfigError(f"{field}.path: {path!r} is not a model directory (it has no config.json){hint}")


def asset_path(name: str, field: str = "path") -> Path:
    """The packaged directory of ``name``.

    Args:
        name: ``base`` (before mid-training), ``sft`` (the mid-trained model after supervised fine-tuning),
            ``reference`` (the same after RLVR), or ``bytes`` (no model, but a tokenizer that reads any text).
        field: that has the name, for the message.

    Raises:
        ConfigError: there is no such directory.
    """
    known = get_args(Asset)
    if name not in known:
        near = did_you_mean(name, known).replace("mean ", f"mean {_EMBEDDED}")
        embedded = ", ".join(f"{_EMBEDDED}{asset}" for asset in known)
        raise ConfigError(f"{field}: got {_EMBEDDED + name!r}; {near}the embedded models are {embedded}")
    return Path(remit_lit.lab.__file__).parent / "assets" / name
