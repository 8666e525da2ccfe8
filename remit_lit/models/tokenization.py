"""Tokenizers: loading, and the fingerprint by which rows, policy and reference are known to speak the same tokens."""

import hashlib
import json
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from remit_lit.benchmarks.hub import hub_note
from remit_lit.errors import ConfigError
from remit_lit.models.locations import check_location, reading, resolve


def load_tokenizer(
    path: str, revision: str | None = None, *, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a hub id, a local directory or an embedded name.

    Raises:
        ConfigError: there is none at ``path``, or it has no EOS token to separate documents.
    """
    check_location("tokenizer", path)
    try:
        with reading(path):
            tokenizer = AutoTokenizer.from_pretrained(
                resolve(path), revision=revision, trust_remote_code=trust_remote_code
            )
    except (OSError, ValueError, KeyError) as error:
        where = f"directory {path!r} has none" if Path(path).is_dir() else f"no tokenizer at {path!r}{hub_note()}"
        raise ConfigError(f"tokenizer: {where}; give a hub id or a directory with tokenizer files ({error})") from error
    if tokenizer.eos_token_id is None:
        raise ConfigError(f"tokenizer: {path!r} defines no EOS token, and documents are separated by EOS")
    return tokenizer


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of what turns text into ids: vocabulary, merges, normaliser, pre-tokeniser.

    Special tokens, chat template and padding are left out: an RL-tuned model may rename reserved tokens or bring a
    template of its own and still read the same rows.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        parts: dict[str, object] = {"vocab": tokenizer.get_vocab()}
    else:
        whole = json.loads(backend.to_str())
        parts = {name: whole.get(name) for name in ("model", "normalizer", "pre_tokenizer")}
        special = {token["content"] for token in whole.get("added_tokens", [])}
        vocab = parts["model"].get("vocab")  # type: ignore[union-attr, attr-defined]
        if isinstance(vocab, dict):
            parts["model"]["vocab"] = {t: i for t, i in vocab.items() if t not in special}  # type: ignore[index]
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def require_same_tokenizer(field: str, found: str, other: str, expected: str) -> None:
    """Raise ConfigError, naming both sides, unless two tokenizer fingerprints agree."""
    if found != expected:
        raise ConfigError(
            f"{field}: its tokenizer ({found[:8]}) is not that of {other} ({expected[:8]}); token ids would mean "
            "different things. Use models and rows of one tokenizer (a vocabulary padded to another size is fine)"
        )
