"""``score``: a frozen model's NLL of every token of prepared rows, as a column beside them."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.progress import Progress, TextColumn
from torch import Tensor

from remit_lit.data.columns import (
    ColumnFacts,
    column_directory,
    has_facts,
    open_shard,
    read_facts,
    write_facts,
    write_shard,
)
from remit_lit.data.manifest import SPLITS, read_manifest
from remit_lit.data.rows import Collate, PackedRows, batch_to
from remit_lit.errors import ConfigError, DataError, NonFiniteError
from remit_lit.models import ModelSpec
from remit_lit.reference import LiveReference

_ROWS_PER_SHARD = 1024


def score(
    rows: str,
    model: ModelSpec,
    column: str,
    split: Literal["train", "validation"] = "train",
    batch_size: int = 8,
    dtype: Literal["float16", "float32"] = "float16",
    document_attention: bool = True,
    device: str = "auto",
) -> Path:
    """Score prepared rows with a frozen model and write the NLLs as a column beside them, never rewriting the rows.

    Started again after an interruption it goes on from the last whole shard.

    Args:
        rows: directory of prepared rows.
        model: the frozen model, e.g. the RL-tuned one.
        column: name of the column, e.g. nll_rl.
        split: which rows.
        batch_size: rows scored at a time.
        dtype: of the stored NLLs in nats; float16 takes 2 bytes a token and moves a ReMiT weight by less than 2e-3.
        document_attention: keep documents apart; must be that of the run which uses the column.
        device: cpu, cuda, cuda:1, ...; auto takes a GPU where there is one.

    Returns:
        The directory of the column.

    Raises:
        ConfigError: the model does not fit the rows, or the column holds the scores of another model.
        NonFiniteError: the model gives NaN or infinite NLLs; names the rows.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size: got {batch_size}; give at least 1 row")
    if split not in SPLITS:
        raise ConfigError(f"split: got {split!r}; give one of {SPLITS}")
    manifest = read_manifest(rows)
    packed = PackedRows(Path(rows, split))
    reference = LiveReference(model)
    reference.check(model, manifest)
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    reference.load(model, place)
    facts = ColumnFacts(
        rows=manifest.fingerprints[split],
        tokenizer=manifest.tokenizer,
        model=reference.fingerprint(),
        document_attention=document_attention,
        dtype=dtype,
        num_rows=len(packed),
        rows_per_shard=_ROWS_PER_SHARD,
        sequence_length=manifest.sequence_length,
    )
    directory = column_directory(rows, split, column)
    if has_facts(directory) and read_facts(directory) != facts:
        raise ConfigError(f"column: {directory} holds other scores ({read_facts(directory)}); name another column")
    write_facts(directory, facts)
    collate = Collate(document_attention)
    bar = Progress(*Progress.get_default_columns(), TextColumn("{task.completed}/{task.total} rows"))
    with bar:
        task = bar.add_task(f"scoring {column}", total=len(packed))
        for index, shard in facts.shards():
            if not _is_whole(directory, facts, index, len(shard)):
                pieces = (shard[start : start + batch_size] for start in range(0, len(shard), batch_size))
                values = [_nll(reference, packed, piece, collate, place).numpy() for piece in pieces]
                write_shard(directory, index, np.concatenate(values).astype(dtype))
            bar.update(task, completed=shard.stop)
    return directory


def _is_whole(directory: Path, facts: ColumnFacts, index: int, num_rows: int) -> bool:
    try:
        open_shard(directory, facts, index, num_rows)
    except (ConfigError, DataError):
        return False
    return True


def _nll(reference: LiveReference, packed: PackedRows, rows: range, collate: Collate, device: torch.device) -> Tensor:
    batch = batch_to(collate([packed[row] for row in rows]), device)
    nll = reference.nll(batch).cpu()
    broken = ~torch.isfinite(nll).all(dim=1)
    if broken.any():
        raise NonFiniteError(f"model: NaN or infinite NLL in row(s) {batch['rows'].cpu()[broken].tolist()}")
    return nll
