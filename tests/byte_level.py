"""A tokenizer whose ids are the bytes of the text."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

BYTE_EOS = 256


def byte_vocabulary() -> dict[str, int]:
    """The character that byte-level tokenizers write for each byte, and that byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + index): b for index, b in enumerate(others)}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Token ids are UTF-8 bytes; 256 ends a document."""
    tokenizer = Tokenizer(models.BPE(byte_vocabulary(), []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
