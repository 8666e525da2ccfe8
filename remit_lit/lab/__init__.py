"""The embedded lab: a synthetic reasoning corpus with a verifier, its tokenizer, and tiny models of one pipeline.

Every feature of the kit runs on it without a download. Its models are ordinary transformers models, and take the
same way through prepare, fit and export as large ones.
"""

from pathlib import Path
from typing import Literal, get_args

from remit_lit.errors import ConfigError

Asset = Literal["base", "sft", "reference", "bytes"]


def asset_path(name: str) -> Path:
    """The packaged directory of ``name``.

    Args:
        name: ``base`` (before mid-training), ``sft`` (the mid-trained model after supervised fine-tuning),
            ``reference`` (the same after RLVR), or ``bytes`` (no model, but a tokenizer that reads any text).

    Raises:
        ConfigError: there is no such directory.
    """
    if name not in get_args(Asset):
        raise ConfigError(f"the lab has {', '.join(get_args(Asset))}; got {name!r}")
    return Path(__file__).parent / "assets" / name
