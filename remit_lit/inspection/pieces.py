"""What stands for a token on the page: its text with spaces, line breaks and stray bytes made visible."""

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from remit_lit.models.byte_tokenizer import byte_vocabulary

_BYTES = {symbol: byte for symbol, byte in byte_vocabulary().items() if len(symbol) == 1}
_WORD_START = "\u2581"  # SentencePiece's space
# A line of the page may end behind a space.
_SHOWN = {" ": "·\u200b", "\n": "↵\n", "\t": "⇥\t", "\r": "␍", "\u00a0": "⍽"}


@dataclass(frozen=True)
class Piece:
    """A token of the vocabulary.

    Attributes:
        shown: text for people. A line break stays one behind its sign.
        content: its bytes, each the character of that number, to search in: some tokens hold a part of a character.
        is_special: BOS, EOS and their like, which are no text.
    """

    shown: str
    content: str
    is_special: bool


def pieces_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[Piece]:
    """What stands for each of ``ids``."""
    decoder, added = _decoder(tokenizer), tokenizer.added_tokens_decoder
    special = {*tokenizer.all_special_ids, *(index for index, token in added.items() if token.special)}
    pieces = []
    for index, symbols in zip(ids, tokenizer.convert_ids_to_tokens(list(ids)), strict=True):
        if symbols is None:  # a vocabulary padded for speed
            pieces.append(Piece(f"⟨id {index}⟩", "", True))
            continue
        content = symbols.encode() if index in added else _content(symbols, decoder)
        pieces.append(Piece(visible(content), content.decode("latin-1"), index in special))
    return pieces


def visible(content: bytes) -> str:
    """``content`` as text in which every character can be seen; what is no UTF-8 as its bytes."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return "".join(f"⟨{byte:02X}⟩" if byte >= 0x80 else visible(bytes([byte])) for byte in content)
    return "".join(map(_visible_character, text))


def _visible_character(character: str) -> str:
    if character in _SHOWN:
        return _SHOWN[character]
    kind = unicodedata.category(character)
    if kind[0] in "CZ":
        return f"⟨U+{ord(character):04X}⟩"
    return f"\u25cc{character}" if kind[0] == "M" else character  # a mark needs something to stand on


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
