"""Whether a model can read prepared rows."""

from typing import TYPE_CHECKING

from remit_lit.errors import ConfigError
from remit_lit.models.spec import ModelSpec
from remit_lit.models.tokenization import require_same_tokenizer, tokenizer_fingerprint

if TYPE_CHECKING:
    from remit_lit.data.manifest import Manifest


def check_reads(field: str, spec: ModelSpec, manifest: "Manifest") -> None:
    """Refuse, before any weights are loaded, a model that cannot read the rows.

    Raises:
        ConfigError: another tokenizer, an embedding with fewer tokens than the tokenizer has, or positions that reach
            less far than a row.
    """
    spec.check(field)  # before its tokenizer is looked for
    tokenizer, config = spec.load_tokenizer(), spec.load_config(field)
    require_same_tokenizer(field, tokenizer_fingerprint(tokenizer), "the rows", manifest.tokenizer)
    vocabulary = getattr(config.get_text_config(), "vocab_size", None)
    if vocabulary is not None and vocabulary < len(tokenizer):
        raise ConfigError(
            f"{field}: has a vocabulary of {vocabulary} tokens (vocab_size), but the tokenizer has {len(tokenizer)}; "
            "give the model that belongs to it"
        )
    window = getattr(config, "max_position_embeddings", None)
    if window is not None and manifest.sequence_length > window:
        raise ConfigError(
            f"{field}: reads at most {window} tokens (max_position_embeddings), but the rows have a "
            f"sequence_length of {manifest.sequence_length}; prepare shorter rows"
        )
