"""What stands for a token on the page: its text with spaces, line breaks and stray bytes made visible."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from remit_lit.models.token_bytes import special_ids, token_bytes

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
    special = special_ids(tokenizer)
    pieces = []
    for index, content in zip(ids, token_bytes(tokenizer, ids), strict=True):
        if content is None:  # a vocabulary padded for speed
            pieces.append(Piece(f"⟨id {index}⟩", "", True))
            continue
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
