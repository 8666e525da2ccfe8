"""The bytes of text that tokens stand for, and which tokens are no text."""

import json
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from remit_lit.models.byte_tokenizer import byte_vocabulary

_BYTES = {symbol: byte for symbol, byte in byte_vocabulary().items() if len(symbol) == 1}
_WORD_START = "\u2581"  # SentencePiece's space


def special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids of BOS, EOS and their like."""
    added = tokenizer.added_tokens_decoder
    return {*tokenizer.all_special_ids, *(index for index, token in added.items() if token.special)}


def token_bytes(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[bytes | None]:
    """What each of ``ids`` stands for, of special tokens their names; None where a vocabulary has no such token.

    A token may hold a part of a character.
    """
    decoder, added = _decoder(tokenizer), tokenizer.added_tokens_decoder
    symbols = tokenizer.convert_ids_to_tokens(list(ids))
    return [
        None if symbol is None else symbol.encode() if index in added else _content(symbol, decoder)
        for index, symbol in zip(ids, symbols, strict=True)
    ]


def _decoder(tokenizer: PreTrainedTokenizerBase) -> str:
    """The part of the tokenizer that turns tokens into text, as JSON."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return "" if backend is None else json.dumps(json.loads(backend.to_str()).get("decoder"), ensure_ascii=False)


def _content(symbols: str, decoder: str) -> bytes:
    if "ByteLevel" in decoder and all(symbol in _BYTES for symbol in symbols):
        return bytes(_BYTES[symbol] for symbol in symbols)
    if "ByteFallback" in decoder and len(symbols) == 6 and symbols.startswith("<0x"):
        return bytes([int(symbols[3:5], 16)])
    is_sentencepiece = "Metaspace" in decoder or _WORD_START in decoder
    return symbols.replace(_WORD_START, " ").encode() if is_sentencepiece else symbols.encode()
