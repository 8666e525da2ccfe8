"""NLLs of a model with another tokenizer, carried over to the tokens of rows by the bytes that both stand for."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from transformers import PreTrainedTokenizerBase

from remit_lit.errors import ConfigError
from remit_lit.models.token_bytes import token_bytes

_SHOWN = 40


@dataclass(frozen=True, eq=False)
class Alignment:
    """A piece of a row in the tokens of both tokenizers, over the same bytes; BOS and EOS count as one byte each.

    Attributes:
        ids: the model's tokens, int64 [tokens].
        lengths: bytes of each of the row's tokens, int64 [row tokens].
        spans: bytes of each of the model's tokens, and of what it does not read, in order, int64 [spans].
        scored: True for spans of tokens that the model scores: all but the first of its tokens, [spans].
    """

    ids: np.ndarray
    lengths: np.ndarray
    spans: np.ndarray
    scored: np.ndarray

    def carry(self, nll: np.ndarray) -> np.ndarray:
        """The row's NLLs in nats, float64 [row tokens].

        Where bounds of both tokenizers meet, what lies between them has the same sum on both sides. Within that, the
        NLL of a token of the model is spread over its bytes. Bytes that it does not score get the mean of all others.

        Args:
            nll: of the model's tokens but the first, [tokens - 1].
        """
        of_spans = np.zeros(len(self.spans))
        of_spans[self.scored] = nll
        known = self.spans[self.scored].sum()
        of_spans[~self.scored] = self.spans[~self.scored] * (nll.sum() / max(known, 1))
        return np.diff(np.interp(self._bounds, _cumulated(self.spans), _cumulated(of_spans)))

    @property
    def is_spread(self) -> np.ndarray:
        """True for tokens of the row whose NLL is no sum of whole NLLs of the model, [row tokens]."""
        meets = np.isin(self._bounds, _cumulated(self.spans))
        unscored = np.interp(self._bounds, _cumulated(self.spans), _cumulated(self.spans * ~self.scored))
        return ~(meets[:-1] & meets[1:]) | (np.diff(unscored) > 0)

    @property
    def _bounds(self) -> np.ndarray:
        return _cumulated(self.lengths)


@dataclass(frozen=True)
class Aligner:
    """Says the text of rows in the tokens of a model.

    Attributes:
        of_rows: the tokenizer of the rows.
        of_model: the model's. Where it has no BOS, EOS stands for it.
    """

    of_rows: PreTrainedTokenizerBase
    of_model: PreTrainedTokenizerBase

    def align(self, ids: Sequence[int], row: int) -> Alignment:
        """A piece of a row, such as a document, that the model reads by itself.

        Other special tokens of the rows are read as their names. Of a character that the piece cuts, the bytes are left
        out.

        Args:
            ids: tokens of the rows, [row tokens].
            row: its number, for messages.

        Raises:
            ConfigError: the model's tokens stand for another text.
        """
        markers, found, spans, is_read = self._markers(), [], [], []
        contents = [content or b"" for content in token_bytes(self.of_rows, ids)]
        for is_marker, group in groupby(zip(ids, contents, strict=True), lambda pair: pair[0] in markers):
            run = list(group)
            if is_marker:
                found += [markers[token] for token, _ in run]
                spans += [1] * len(run)
                is_read += [True] * len(run)
                continue
            head, text, tail = _whole_characters(b"".join(content for _, content in run), row)
            tokens = self.of_model(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            lengths = self._lengths(tokens, text, row)
            found += tokens
            spans += [head, *lengths, tail]
            is_read += [False, *([True] * len(lengths)), False]
        kept = np.array(spans) > 0
        scored = np.array(is_read)[kept]
        scored[np.flatnonzero(scored)[:1]] = False
        lengths = [1 if token in markers else len(content) for token, content in zip(ids, contents, strict=True)]
        return Alignment(np.array(found, np.int64), np.array(lengths), np.array(spans)[kept], scored)

    def _markers(self) -> dict[int, int]:
        """The model's token for BOS and for EOS of the rows."""
        start, end = self.of_model.bos_token_id, self.of_model.eos_token_id
        pairs = {self.of_rows.bos_token_id: end if start is None else start, self.of_rows.eos_token_id: end}
        return {token: stands for token, stands in pairs.items() if token is not None and stands is not None}

    def _lengths(self, tokens: Sequence[int], text: str, row: int) -> list[int]:
        contents = [content or b"" for content in token_bytes(self.of_model, tokens)]
        if (read := b"".join(contents)) != text.encode():
            raise ConfigError(
                f"model.tokenizer: it reads the text of row {row} as another one, {_excerpt(read, text.encode())}; "
                "give a model whose tokenizer neither changes nor adds characters, such as a byte-level one"
            )
        return [len(content) for content in contents]


def _whole_characters(run: bytes, row: int) -> tuple[int, str, int]:
    """How many bytes of a cut character come first, the text, and how many of another come last."""
    body = run.lstrip(bytes(range(0x80, 0xC0)))
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(body)
    except UnicodeDecodeError as error:
        raise ConfigError(f"rows: the tokens of row {row} are no UTF-8 text ({error})") from error
    return len(run) - len(body), text, len(decoder.getstate()[0])


def _cumulated(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(values)])


def _excerpt(read: bytes, text: bytes) -> str:
    pairs = enumerate(zip(read, text, strict=False))
    place = next((index for index, (one, other) in pairs if one != other), min(len(read), len(text)))
    shown = slice(max(0, place - _SHOWN // 2), place + _SHOWN // 2)
    return f"{read[shown].decode(errors='replace')!r} for {text[shown].decode(errors='replace')!r}"
