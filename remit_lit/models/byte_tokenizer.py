"""A tokenizer for any text: one token for each byte of its UTF-8, as an ordinary transformers fast tokenizer.

It ships with the package as ``lab/bytes``, so that text of one's own can be tried without a hub::

    build_byte_tokenizer().save_pretrained("remit_lit/lab/assets/bytes")
"""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from remit_lit.lab.tokenizer import as_fast_tokenizer

BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
# Bytes that byte-level tokenizers write as the character of the same number; the others follow from 256 on.
_PRINTABLE = (*range(33, 127), *range(161, 173), *range(174, 256))


def byte_vocabulary() -> dict[str, int]:
    """Token to id, all 259 of them: a byte's id is its value, then come BOS, EOS and PAD."""
    others = [byte for byte in range(256) if byte not in _PRINTABLE]
    symbols = {byte: chr(byte) for byte in _PRINTABLE} | {byte: chr(256 + place) for place, byte in enumerate(others)}
    return {token: index for index, token in enumerate([*(symbols[byte] for byte in range(256)), BOS, EOS, PAD])}


def build_byte_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer. It adds BOS before a text; decoding gives the text back exactly.

    As with other tokenizers, the name of a special token within a text is read as that token.
    """
    tokenizer = Tokenizer(models.BPE(byte_vocabulary(), merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in (BOS, EOS, PAD)])
    return as_fast_tokenizer(tokenizer, BOS, EOS, PAD)
