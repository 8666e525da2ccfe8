"""The lab's tokenizer: 32 single-character tokens, as an ordinary transformers fast tokenizer.

A document of 31 characters becomes 33 tokens: BOS, added by the tokenizer, the characters, and EOS, which
``prepare`` appends. Four documents therefore fill a row of 132 tokens.
"""

import string

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from remit_lit.errors import ConfigError
from remit_lit.lab.task import OPERATORS, VALUES

BOS, EOS, PAD = "^", "\n", "_"
ALPHABET = string.digits[:VALUES] + OPERATORS + "Q:=#" + "abcdefghijklm"
DOCUMENT_CHARACTERS = 31
DOCUMENT_TOKENS = DOCUMENT_CHARACTERS + 2


def lab_vocabulary() -> dict[str, int]:
    """Token to id, all 32 of them."""
    return {token: index for index, token in enumerate(BOS + EOS + PAD + ALPHABET)}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer. A character outside its alphabet is an error, there being no unknown token."""
    tokenizer = Tokenizer(models.WordLevel(lab_vocabulary()))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return as_fast_tokenizer(tokenizer, BOS, EOS, PAD)


def as_fast_tokenizer(tokenizer: Tokenizer, bos: str, eos: str, pad: str) -> PreTrainedTokenizerFast:
    """``tokenizer`` for transformers: BOS before each text, padding on the left, and decoding that changes no space."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def check_lab_tokenizer(tokenizer: PreTrainedTokenizerBase, field: str = "tasks") -> None:
    """Raise ConfigError, naming ``field``, unless ``tokenizer`` has exactly the lab's vocabulary."""
    vocabulary = tokenizer.get_vocab()
    if vocabulary != lab_vocabulary():
        raise ConfigError(
            f"{field}: the lab's problems need the lab's tokenizer ({len(lab_vocabulary())} single characters), but "
            f"the model's has {len(vocabulary):,} tokens; give a model of the lab such as lab/base, or leave them out"
        )
