"""Text to packed rows on disk: tokenise, choose documents by the mix, pack, write a manifest, rename into place."""

import shutil
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from remit_lit.data import kept_shards
from remit_lit.data.corpus import take_all, take_documents
from remit_lit.data.decontamination import Decontamination, read_items
from remit_lit.data.manifest import (
    SPLITS,
    DecontaminationFacts,
    rows_fingerprint,
    settings_of,
    versions,
    write_manifest,
)
from remit_lit.data.progress_bar import BRIEF, progress
from remit_lit.data.row_checksums import write_checksums
from remit_lit.data.row_files import RowWriter
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.shards import take_shards
from remit_lit.data.splits import Taken
from remit_lit.data.tokenizing import Tokenizing
from remit_lit.data.tokenizing_workers import LocalWorkers, StartWorkers
from remit_lit.errors import ConfigError, DataError
from remit_lit.files import full_disk_named, put_in_place, scratch_beside, sync, sync_all
from remit_lit.models.tokenization import load_tokenizer


def prepare(
    output: str | Path,
    settings: PrepareSettings,
    *,
    overwrite: bool = False,
    start: StartWorkers | None = None,
    alone: bool = False,
) -> Path:
    """Write packed rows to ``output``: ``train/``, ``validation/`` (``datasets``, Arrow) and ``manifest.json``.

    The same seed gives the same bytes, whatever the number of workers. Nothing is at ``output`` until all is written.
    A run that was killed leaves its tokenised shards beside it, which the next one with the same settings, tokenizer
    and files takes over.

    Args:
        output: directory.
        settings: what the rows are made from.
        overwrite: replace ``output`` where it exists.
        start: what tokenises; by default ``settings.num_workers`` processes of this machine.
        alone: whether the caller holds a lock on ``output``; only then is what another machine left taken over.

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
    training = Tokenizing.of(settings.sources, tokenizer, Path("tokens"), decontamination)
    held_out = None
    if settings.validation is not None:
        held_out = Tokenizing.of(settings.validation, tokenizer, Path("validation-tokens"), field="validation")
    then = "make room, or give an --output on another disk"
    with (
        full_disk_named(f"output: cannot write {output}", then),
        scratch_beside(output, _recipe(settings, decontamination, training, held_out), alone=alone) as scratch,
    ):
        start = start or partial(LocalWorkers, number=settings.num_workers)
        taken = _take(scratch, training, held_out, settings, start)
        shutil.rmtree(scratch / "rows", ignore_errors=True)
        _write(scratch / "rows", tokenizer, settings, decontamination, taken)
        if overwrite:
            put_in_place(scratch / "rows", output)
        else:
            _move(scratch / "rows", output)
    return output


def _recipe(
    settings: PrepareSettings, decontamination: Decontamination | None, *jobs: Tokenizing | None
) -> dict[str, Any]:
    """What decides the tokens of every shard."""
    return {
        "settings": settings_of(settings),
        "versions": versions(),
        "items": None if decontamination is None else decontamination.items,
        "jobs": [job.identity() for job in jobs if job is not None],
    }


def _move(rows: Path, output: Path) -> None:
    sync_all(rows)
    try:
        rows.rename(output)
    except OSError:
        if not output.exists():
            raise
        raise ConfigError(f"output: another process has just written {output}; its rows are kept") from None
    sync(output.parent)


def _take(
    scratch: Path, training: Tokenizing, held_out: Tokenizing | None, settings: PrepareSettings, start: StartWorkers
) -> tuple[Taken, Taken]:
    """The training and the held-out documents, tokenised."""
    jobs = [replace(job, directory=scratch / job.directory) for job in (training, held_out) if job is not None]
    for job in jobs:
        job.directory.mkdir(exist_ok=True)
        if kept := kept_shards.number_of(job.directory):
            print(f"{kept} shards are tokenized already, by a run that was stopped; they are taken over", flush=True)
    take = take_shards if settings.draw == "shards" else take_documents
    taken = take(jobs[0], settings, start)
    return taken if held_out is None else (taken[0], take_all(jobs[1], settings, start))


def _write(
    rows: Path,
    tokenizer: PreTrainedTokenizerBase,
    settings: PrepareSettings,
    decontamination: Decontamination | None,
    splits: tuple[Taken, Taken],
) -> None:
    counts, fingerprints = {}, {}
    for split, taken in zip(SPLITS, splits, strict=True):
        number, ends = taken.tokens // settings.sequence_length, []
        with progress(f"writing rows, {split}", number, "row", delay=BRIEF) as bar:
            writer = RowWriter(rows / split, settings.sequence_length, bar.update)
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
        dropped = dict(zip(settings.sources, splits[0].contaminated, strict=True))
        facts = DecontaminationFacts(decontamination.ngram, decontamination.items, dropped)
    write_manifest(rows, tokenizer, settings_of(settings), counts, fingerprints, facts)
