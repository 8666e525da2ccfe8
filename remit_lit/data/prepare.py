"""Text to packed rows on disk: tokenise, choose documents by the mix, pack, write a manifest, rename into place."""

import warnings
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from remit_lit.data.corpus import take_all, take_documents
from remit_lit.data.decontamination import Decontamination, read_items
from remit_lit.data.manifest import SPLITS, DecontaminationFacts, rows_fingerprint, settings_of, write_manifest
from remit_lit.data.row_checksums import write_checksums
from remit_lit.data.row_files import RowWriter
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.shards import take_shards
from remit_lit.data.tokenizing import Tokenizing
from remit_lit.errors import ConfigError, DataError
from remit_lit.files import full_disk_named, put_in_place, scratch_beside, sync, sync_all
from remit_lit.models.tokenization import load_tokenizer


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
    job = Tokenizing.of(settings.sources, tokenizer, scratch / "tokens", decontamination)
    take = take_shards if settings.draw == "shards" else take_documents
    training, held_out = take(job, settings)
    if settings.validation is not None:
        directory = scratch / "validation-tokens"
        held_out = take_all(Tokenizing.of(settings.validation, tokenizer, directory, field="validation"), settings)
    rows = scratch / "rows"
    counts, fingerprints = {}, {}
    for split, taken in zip(SPLITS, (training, held_out), strict=True):
        writer, ends = RowWriter(rows / split, settings.sequence_length), []
        for write in taken.stages:
            write(writer)
            writer.end_stage()
            ends.append(writer.num_rows)
        if writer.num_rows == 0:
            if split == "train":
                raise DataError(
                    f"sources: {writer.left_over} tokens in all, less than one row of {settings.sequence_length}"
                )
            if settings.validation is not None or settings.validation_share > 0:
                warnings.warn(
                    "validation: the held-out documents do not fill a row, so there is no validation split",
                    stacklevel=3,
                )
            continue
        table = writer.close()
        write_checksums(rows / split, table)
        counts[split] = {"rows": writer.num_rows, "sources": taken.facts()}
        if split == "train" and settings.stages is not None:
            counts[split]["stages"] = taken.stage_facts(ends)
        fingerprints[split] = rows_fingerprint(table)
    facts = None
    if decontamination is not None:
        dropped = dict(zip(settings.sources, training.contaminated, strict=True))
        facts = DecontaminationFacts(decontamination.ngram, decontamination.items, dropped)
    write_manifest(rows, tokenizer, settings_of(settings), counts, fingerprints, facts)
