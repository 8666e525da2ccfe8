"""A tokenizer whose ids are the bytes of the text, and a tiny model that reads it."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tests.helpers import llama_config

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


def save_byte_model(directory: Path) -> Path:
    """A tiny random Llama with a window of 512 bytes, and its tokenizer, in ``directory``."""
    sizes = {"vocab_size": BYTE_EOS + 1, "max_position_embeddings": 512, "initializer_range": 0.3}
    config = llama_config(**sizes, bos_token_id=None, eos_token_id=BYTE_EOS, pad_token_id=None)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory
