"""``score``: what a frozen model says of every token of prepared rows, as columns beside them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from remit_lit.data.batch import Batch
from remit_lit.data.columns import (
    IDS,
    LOG_PROBABILITIES,
    ColumnFacts,
    ScoreColumn,
    column_directory,
    of_distributions,
    writing,
)
from remit_lit.data.manifest import SPLITS, read_manifest
from remit_lit.data.rows import Collate, PackedRows
from remit_lit.data.storage import located, require_local
from remit_lit.errors import ConfigError, not_among, require_at_least
from remit_lit.models.flops import forward_flops
from remit_lit.models.spec import ModelSpec
from remit_lit.models.token_scores import TokenScores, token_scores
from remit_lit.models.tokenization import tokenizer_fingerprint
from remit_lit.models.top_tokens import TopTokens, top_tokens
from remit_lit.reference.aligned import AlignedScores
from remit_lit.reference.passes import Column, Scorer, require_space, verify_columns, write_columns
from remit_lit.reference.reference import LiveReference, Reader

# Ranks wait for each other at the end only, for as long as the slowest scores its last shard.
_TIMEOUT = timedelta(days=7)


def score(
    rows: str,
    model: ModelSpec,
    column: str,
    split: Literal["train", "validation"] = "train",
    dtype: Literal["float16", "float32"] = "float16",
    document_attention: bool = True,
    batch_tokens: int = 8192,
    rows_per_shard: int = 1024,
    verify: int = 0,
    accelerator: str = "auto",
    devices: int = 1,
    num_nodes: int = 1,
    output: str | None = None,
    top_k: int | None = None,
    align: bool = False,
    entropy_column: str | None = None,
    top_k_column: str | None = None,
) -> Path:
    """Score prepared rows with a frozen model and write the NLLs as a column beside them, never rewriting the rows.

    Further columns may be written in the same pass. Killed at any moment and started again, it goes on from the last
    whole shard and ends with the same bytes; a column that was whole before is left as it is.

    Args:
        rows: directory of prepared rows, or its URL on an object storage, e.g. s3://bucket/rows.
        model: the frozen model, e.g. the RL-tuned one.
        column: name of the column, e.g. nll_rl.
        split: the rows to score: train for training; validation to compare models on held-out rows.
        dtype: of the stored NLLs in nats; float16 takes 2 bytes a token. It rounds an NLL below 8 nats by less than
            2e-3 nats and one below 16 by less than 4e-3, which moves a ReMiT weight (slope 1) by half as much at most.
            The NLLs themselves are good to 2e-3 nats, also of a half-precision model. float32 adds no rounding.
        document_attention: keep documents apart; must be that of the run which uses the column.
        batch_tokens: how many tokens are scored at a time on each device, in whole rows; raise it while memory allows.
        rows_per_shard: how many rows each file holds; an interruption loses at most these.
        verify: how many rows, drawn at random, to score again at the end; the largest difference is reported.
        accelerator: cpu or gpu; auto uses a GPU if there is one.
        devices: how many processes run on each node, each with its own device and share of the shards.
        num_nodes: how many nodes run; start each with torchrun or srun.
        output: a directory of the same rows, made of links, to write the column into; null: into rows itself.
        top_k: in place of NLLs, write ids and log-probabilities of this many most likely tokens at each position, for
            model.distillation.column; each takes 4 bytes and those of dtype. More lose less of the distribution.
        align: the model may have another tokenizer: it reads the text of the rows in its own tokens, and their NLLs are
            carried over by bytes. A second column, of the name with _spread, has 1 where bounds do not meet, so that an
            NLL was shared out by bytes.
        entropy_column: beside it, write a column of this name with the entropy of the model's distribution over the
            token, in nats; for strategies that read the reference's entropy (model.reference.entropy_column).
        top_k_column: with top_k, write the most likely tokens by this name, beside the NLLs and not in their place.

    Returns:
        The directory of the column.

    Raises:
        ConfigError: the model does not fit the rows, its vocabulary is no larger than ``top_k``, names of columns do
            not go together, a column holds the scores of another model, the output holds other rows, the disk has too
            little room, or another process writes a column.
        DataError: the disk filled up meanwhile; finished shards are kept.
        NonFiniteError: the model gives NaN or infinite NLLs; names the rows.
    """
    least = {"batch_tokens": (batch_tokens, 1), "rows_per_shard": (rows_per_shard, 1), "verify": (verify, 0)}
    for field, (value, minimum) in {**least, "devices": (devices, 1), "num_nodes": (num_nodes, 1)}.items():
        require_at_least(field, value, minimum)
    require_at_least("top_k", top_k, 1, or_null=True)
    if split not in SPLITS:
        raise ConfigError(f"split: {not_among(split, SPLITS)}")
    _check_names(column, entropy_column, top_k_column, top_k)
    manifest = read_manifest(rows)
    if output is not None:
        rows = _link(rows, output)
        if read_manifest(rows) != manifest:
            raise ConfigError(f"output: {output} holds other rows; give another directory")
    packed = PackedRows(located(rows, split))
    reference = LiveReference(model)
    reference.field = "model"
    aligned = None
    if align and tokenizer_fingerprint(model.load_tokenizer()) != manifest.tokenizer:
        for name, given in (("top_k", top_k), ("entropy_column", entropy_column)):
            if given is not None:
                raise ConfigError(
                    f"{name}: got {given} with align, but tokens of another vocabulary are none of the policy's"
                )
        model.check(reference.field)
        aligned = AlignedScores(reference, manifest)
    else:
        reference.check(model, manifest)
    vocabulary = len(model.load_tokenizer())
    if top_k is not None and top_k >= vocabulary:
        raise ConfigError(f"top_k: got {top_k}; give less than the {vocabulary} tokens of the vocabulary")
    facts = ColumnFacts(
        rows=manifest.fingerprints[split],
        tokenizer=manifest.tokenizer,
        model="",
        document_attention=document_attention,
        dtype=dtype,
        num_rows=len(packed),
        rows_per_shard=rows_per_shard,
        sequence_length=manifest.sequence_length,
    )
    names = {"column": column, "entropy_column": entropy_column, "top_k_column": top_k_column}
    if aligned:
        names["align"] = f"{column}_spread"
    columns = _columns(rows, split, names, facts, top_k)
    from lightning.fabric import Fabric  # as late as this, which takes seconds
    from lightning.fabric.strategies.ddp import DDPStrategy

    strategy: Any = DDPStrategy(timeout=_TIMEOUT) if devices * num_nodes > 1 else "auto"
    fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=num_nodes, strategy=strategy)
    with ExitStack() as holding:
        if fabric.global_rank == 0:
            for each in columns:
                holding.enter_context(writing(each.directory))
            require_space(columns)
        fabric.launch()
        reference.load(model, fabric.device)
        forward = forward_flops(reference.model, manifest.sequence_length)
        by = reference.weights_hash()
        columns = [each.scored_by(by, forward) for each in columns]
        rows_per_batch = max(1, batch_tokens // facts.sequence_length)
        said = _aligned(aligned) if aligned else _said(reference, [each.facts for each in columns], vocabulary)
        scorer = Scorer(said, packed, Collate(document_attention), rows_per_batch, fabric.device)
        write_columns(columns, scorer, fabric)
        if aligned and fabric.is_global_zero:
            _report_spread(columns[1].directory)
        if verify and fabric.is_global_zero:
            verify_columns(columns, scorer, min(verify, len(packed)))
        fabric.barrier()
    return columns[0].directory


def _check_names(column: str, entropy_column: str | None, top_k_column: str | None, top_k: int | None) -> None:
    if top_k_column is not None and top_k is None:
        raise ConfigError(f"top_k_column: got {top_k_column!r} without top_k; give how many tokens it is to hold")
    if entropy_column == column and (top_k is None or top_k_column is not None):
        raise ConfigError(f"entropy_column: got {entropy_column!r}, the name of the column of NLLs; give another")


def _columns(
    rows: str, split: str, names: Mapping[str, str | None], facts: ColumnFacts, top_k: int | None
) -> list[Column]:
    """Those to write by the fields that name them, that of ``column`` first."""
    tops = None if top_k is None else "column" if names["top_k_column"] is None else "top_k_column"
    columns = []
    for field, name in names.items():
        if name is not None:
            kind = of_distributions(name) if field == tops else name
            of = replace(facts, top_k=top_k if field == tops else None, entropy=field == "entropy_column")
            columns.append(Column(field, column_directory(rows, split, kind), of))
    return columns


def _said(
    reference: LiveReference, columns: Sequence[ColumnFacts], vocabulary: int
) -> Callable[[Batch], list[np.ndarray]]:
    """What a model says of a batch in one forward pass: the values of each column, [rows, time]."""
    readers: list[Reader] = []
    if any(facts.top_k is None for facts in columns):
        readers.append(partial(token_scores, with_entropy=any(facts.entropy for facts in columns)))
    top_k = next((facts.top_k for facts in columns if facts.top_k is not None), None)
    if top_k is not None:
        readers.append(lambda model, hidden, _: top_tokens(model, hidden, top_k, vocabulary))

    def score(batch: Batch) -> list[np.ndarray]:
        found = {type(each): each for each in reference.read(batch, *readers)}
        return [_values(facts, found) for facts in columns]

    return score


def _values(facts: ColumnFacts, found: Mapping[type, Any]) -> np.ndarray:
    """Those of a column before they are rounded: float32, or ids and float32."""
    if facts.top_k is None:
        values: Tensor = found[TokenScores].entropy if facts.entropy else found[TokenScores].nll
        return values.cpu().numpy()
    top: TopTokens = found[TopTokens]
    pairs = np.empty(top.ids.shape[:-1], replace(facts, dtype="float32").stored)
    pairs[IDS], pairs[LOG_PROBABILITIES] = top.ids.cpu(), top.log_probabilities.cpu()
    return pairs


def _aligned(scores: AlignedScores) -> Callable[[Batch], list[np.ndarray]]:
    """NLLs of a batch, and where they were shared out by bytes."""
    return lambda batch: [scores.nll(batch), scores.spread(batch)]


def _report_spread(directory: Path) -> None:
    column = ScoreColumn(directory)
    facts = column.facts
    spread = sum(int(column[row].sum(dtype=np.float32)) for row in range(facts.num_rows))
    print(
        f"{spread:,} of {facts.num_rows * facts.sequence_length:,} tokens: their bounds are not the model's, so "
        f"that NLLs were shared out by bytes; column {directory.name} has 1 there"
    )


def _link(rows: str, output: str) -> str:
    """A directory of the same rows with columns of its own; ranks may make it at the same time."""
    for field, path in (("rows", rows), ("output", output)):
        require_local(field, path, "leave output out: the column is then written beside the rows")
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("manifest.json", *SPLITS):
        if Path(rows, name).exists():
            with suppress(FileExistsError):
                (directory / name).symlink_to(Path(rows, name).resolve())
    return output
