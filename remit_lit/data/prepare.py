"""Text to packed rows on disk: tokenise, choose documents by the mix, pack, write a manifest, rename into place."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from transformers import PreTrainedTokenizerBase

from remit_lit.data.corpus import Corpus, hold_out, mix, tokenize
from remit_lit.data.dataset_writer import generate
from remit_lit.data.decontamination import Decontamination, read_items
from remit_lit.data.manifest import SPLITS, DecontaminationFacts, rows_fingerprint, settings_of, write_manifest
from remit_lit.data.packing import Packing, TokenStore
from remit_lit.data.row_checksums import write_checksums
from remit_lit.data.settings import PrepareSettings
from remit_lit.errors import ConfigError, DataError
from remit_lit.files import full_disk_named, put_in_place, scratch_beside, sync, sync_all
from remit_lit.models.tokenization import load_tokenizer

_ROWS_PER_PIECE = 8192


def prepare(output: str | Path, settings: PrepareSettings, *, overwrite: bool = False) -> Path:
    """Write packed rows to ``output``: ``train/``, ``validation/`` (``datasets``, Arrow) and ``manifest.json``.

    The same seed gives the same bytes, whatever the number of workers. Nothing is at ``output`` until all is written.

    Raises:
        ConfigError: settings that cannot work, or ``output`` exists and ``overwrite`` is False.
        DataError: a malformed record (naming file and line), a missing field, too little text for one row, or none
            that shares no words with evaluation items.
    """
    settings.check()
    settings.check_sources()
    output = Path(output)
    if output.exists() and not overwrite:
        raise ConfigError(f"output: {output} exists; give another directory, or --overwrite=true")
    tokenizer = load_tokenizer(settings.tokenizer, settings.tokenizer_revision)
    decontamination = None
    if settings.decontaminate is not None:
        decontamination = read_items(settings.decontaminate, settings.decontaminate_ngram)
    then = "make room, or give an --output on another disk"
    with full_disk_named(f"output: cannot write {output}", then), scratch_beside(output) as scratch:
        _write(scratch, tokenizer, settings, decontamination)
        if overwrite:
            put_in_place(scratch / "rows", output)
        else:
            _move(scratch / "rows", output)
    return output


def _move(rows: Path, output: Path) -> None:
    sync_all(rows)
    try:
        rows.rename(output)
    except OSError:
        if not output.exists():
            raise
        raise ConfigError(f"output: another process has just written {output}; its rows are kept") from None
    sync(output.parent)


def _write(
    scratch: Path,
    tokenizer: PreTrainedTokenizerBase,
    settings: PrepareSettings,
    decontamination: Decontamination | None,
) -> None:
    training = tokenize(settings.sources, tokenizer, settings.num_workers, scratch / "tokens", decontamination)
    if settings.validation is None:
        chosen, held_out = hold_out(training, settings)
        validation = training
    else:
        chosen = [training.shuffled(index, settings.seed) for index in range(len(training.names))]
        validation = tokenize(settings.validation, tokenizer, settings.num_workers, scratch / "validation-tokens")
        held_out = [validation.shuffled(index, settings.seed) for index in range(len(validation.names))]
    chosen = mix(training, chosen, settings)
    rows = scratch / "rows"
    counts, fingerprints = {}, {}
    for split, corpus, documents in zip(SPLITS, (training, validation), (chosen, held_out), strict=True):
        packing = _pack(corpus, documents, settings)
        if packing.num_rows == 0:
            if split == "train":
                tokens = int(packing.ends[-1]) if len(packing.ends) else 0
                raise DataError(f"sources: {tokens} tokens in all, less than one row of {settings.sequence_length}")
            if settings.validation is not None or settings.validation_share > 0:
                warnings.warn(
                    "validation: the held-out documents do not fill a row, so there is no validation split",
                    stacklevel=3,
                )
            continue
        table = _write_rows(packing, corpus, scratch / f"{split}-rows", settings.num_workers)
        table.save_to_disk(rows / split)
        write_checksums(rows / split, table)
        counts[split] = {"rows": packing.num_rows, "sources": _count(corpus, documents)}
        fingerprints[split] = rows_fingerprint(table)
    facts = None
    if decontamination is not None:
        dropped = dict(zip(training.names, training.contaminated, strict=True))
        facts = DecontaminationFacts(decontamination.ngram, decontamination.items, dropped)
    write_manifest(rows, tokenizer, settings_of(settings), counts, fingerprints, facts)


def _pack(corpus: Corpus, documents: list[np.ndarray], settings: PrepareSettings) -> Packing:
    chosen = np.concatenate(documents)
    order = np.random.default_rng([settings.seed, len(chosen)]).permutation(chosen)
    return Packing(order, np.cumsum(corpus.lengths[order]), corpus.source[order], settings.sequence_length)


def _write_rows(packing: Packing, corpus: Corpus, directory: Path, num_workers: int) -> datasets.Dataset:
    features = datasets.Features(
        {
            "input_ids": datasets.List(datasets.Value("int32"), length=packing.sequence_length),
            "document_lengths": datasets.List(datasets.Value("int32")),
            "document_sources": datasets.List(datasets.Value("int16")),
        }
    )
    pieces = list(range(0, packing.num_rows, _ROWS_PER_PIECE))
    # `datasets` shares every list among the workers, so what all of them need is a tuple.
    arguments = {"pieces": pieces, "packing": packing, "tables": tuple(corpus.tables)}
    return generate(_packed_rows, arguments, features, min(num_workers, len(pieces)), directory)


def _packed_rows(pieces: list[int], packing: Packing, tables: tuple[datasets.Dataset, ...]) -> Iterator[dict[str, Any]]:
    store = TokenStore([table.data.table for table in tables])
    for start in pieces:
        yield from packing.rows(start, min(start + _ROWS_PER_PIECE, packing.num_rows), store)


def _count(corpus: Corpus, documents: list[np.ndarray]) -> dict[str, dict[str, int]]:
    return {
        name: {
            "documents": len(chosen),
            "tokens": int(corpus.lengths[chosen].sum()),
            "bytes": int(corpus.bytes[chosen].sum()),
            "skipped": skipped,
        }
        for name, chosen, skipped in zip(corpus.names, documents, corpus.skipped, strict=True)
    }
