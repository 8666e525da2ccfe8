"""Scores of rows by a model that reads other tokens than theirs."""

from collections.abc import Iterator

import numpy as np

from remit_lit.data.batch import Batch
from remit_lit.data.manifest import Manifest
from remit_lit.data.rows import Collate, Row
from remit_lit.errors import ConfigError
from remit_lit.models.tokenization import load_tokenizer, tokenizer_fingerprint
from remit_lit.reference.alignment import Aligner, Alignment
from remit_lit.reference.reference import LiveReference


class AlignedScores:
    """NLLs of a batch of rows by a live model with another tokenizer, and where they had to be spread.

    What a row holds of a document is one text for the model, or all of the row where documents see each other.

    Args:
        reference: the model.
        manifest: of the rows, whose tokenizer is loaded from where they were prepared.

    Raises:
        ConfigError: that tokenizer is no longer there, or another one.
    """

    def __init__(self, reference: LiveReference, manifest: Manifest) -> None:
        path = manifest.settings["tokenizer"]
        of_rows = load_tokenizer(path, manifest.settings.get("tokenizer_revision"))
        if tokenizer_fingerprint(of_rows) != manifest.tokenizer:
            raise ConfigError(f"align: the rows were prepared with another tokenizer than {path!r} now is")
        self.reference = reference
        self.aligner = Aligner(of_rows, reference.spec.load_tokenizer())
        config = reference.spec.load_config(reference.field)
        self.window = getattr(config, "max_position_embeddings", None)

    def nll(self, batch: Batch) -> np.ndarray:
        """In nats, float32 [rows, time]; 0 where the row has no target.

        Raises:
            ConfigError: the model's tokens stand for another text, or are more than it can read.
        """
        rows = [list(self._pieces(batch, index)) for index in range(len(batch.rows))]
        found = self.reference.nll(self._batch(batch, rows)).cpu().numpy()
        values = np.zeros(batch.targets.shape, np.float32)
        for index, pieces in enumerate(rows):
            first = 0
            for start, piece in pieces:
                own = found[index, first : first + max(len(piece.ids) - 1, 0)]
                carried = piece.carry(own.astype(np.float64))
                values[index, start : start + len(carried) - 1] = carried[1:]
                first += len(piece.ids)
        return values

    def spread(self, batch: Batch) -> np.ndarray:
        """1 where an NLL is no sum of whole NLLs of the model, else 0, float32 [rows, time]."""
        values = np.zeros(batch.targets.shape, np.float32)
        for index in range(len(batch.rows)):
            for start, piece in self._pieces(batch, index):
                values[index, start : start + len(piece.lengths) - 1] = piece.is_spread[1:]
        return values

    def _pieces(self, batch: Batch, index: int) -> Iterator[tuple[int, Alignment]]:
        """Where each piece of a row begins, and its alignment."""
        ids, number = batch.input_ids[index].tolist(), int(batch.rows[index])
        starts = (batch.position_ids[index] == 0).nonzero()[:, 0].tolist()
        for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True):
            piece = self.aligner.align(ids[start:stop], number)
            if self.window is not None and len(piece.ids) > self.window:
                raise ConfigError(
                    f"model: reads at most {self.window} tokens (max_position_embeddings), but a text of row {number} "
                    f"has {len(piece.ids)} of its own; prepare shorter rows"
                )
            yield start, piece

    def _batch(self, batch: Batch, rows: list[list[tuple[int, Alignment]]]) -> Batch:
        """The rows in the model's tokens, filled up to the same length by documents of one token."""
        lengths = [[len(piece.ids) for _, piece in pieces if len(piece.ids)] for pieces in rows]
        longest = max(map(sum, lengths))
        made = []
        for number, pieces, own in zip(batch.rows.tolist(), rows, lengths, strict=True):
            ids = np.concatenate([piece.ids for _, piece in pieces])
            filled = own + [1] * (longest - len(ids))
            tokens = np.pad(ids, (0, longest - len(ids)), constant_values=self.aligner.of_model.eos_token_id)
            made.append(Row(number, tokens, np.array(filled), np.zeros(len(filled), np.int64), {}))
        return Collate(document_attention=True)(made).to(batch.targets.device)
