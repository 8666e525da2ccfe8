"""``score``: what a frozen model says of every token of prepared rows, as a column beside them."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies.ddp import DDPStrategy

from remit_lit.data.batch import Batch
from remit_lit.data.columns import (
    IDS,
    LOG_PROBABILITIES,
    ColumnFacts,
    ScoreColumn,
    column_directory,
    has_facts,
    is_whole,
    of_distributions,
    read_facts,
    shard_path,
    write_facts,
    write_shard,
    writing,
)
from remit_lit.data.manifest import SPLITS, read_manifest
from remit_lit.data.progress_bar import progress
from remit_lit.data.rows import Collate, PackedRows
from remit_lit.errors import ConfigError, NonFiniteError, not_among, require_at_least
from remit_lit.models.flops import forward_flops
from remit_lit.models.spec import ModelSpec
from remit_lit.models.tokenization import tokenizer_fingerprint
from remit_lit.reference.aligned import AlignedScores
from remit_lit.reference.reference import LiveReference

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
) -> Path:
    """Score prepared rows with a frozen model and write the NLLs as a column beside them, never rewriting the rows.

    Killed at any moment and started again, it goes on from the last whole shard and ends with the same bytes.

    Args:
        rows: directory of prepared rows.
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

    Returns:
        The directory of the column.

    Raises:
        ConfigError: the model does not fit the rows, its vocabulary is no larger than ``top_k``, the column holds the
            scores of another model, the output holds other rows, the disk has too little room, or another process
            writes the column.
        DataError: the disk filled up meanwhile; finished shards are kept.
        NonFiniteError: the model gives NaN or infinite NLLs; names the rows.
    """
    least = {"batch_tokens": (batch_tokens, 1), "rows_per_shard": (rows_per_shard, 1), "verify": (verify, 0)}
    for field, (value, minimum) in {**least, "devices": (devices, 1), "num_nodes": (num_nodes, 1)}.items():
        require_at_least(field, value, minimum)
    require_at_least("top_k", top_k, 1, or_null=True)
    if split not in SPLITS:
        raise ConfigError(f"split: {not_among(split, SPLITS)}")
    manifest = read_manifest(rows)
    if output is not None:
        rows = _link(rows, output)
        if read_manifest(rows) != manifest:
            raise ConfigError(f"output: {output} holds other rows; give another directory")
    packed = PackedRows(Path(rows, split))
    reference = LiveReference(model)
    reference.field = "model"
    aligned = None
    if align and tokenizer_fingerprint(model.load_tokenizer()) != manifest.tokenizer:
        if top_k is not None:
            raise ConfigError(
                f"top_k: got {top_k} with align, but tokens of another vocabulary are none of the policy's"
            )
        model.check(reference.field)
        aligned = AlignedScores(reference, manifest)
    else:
        reference.check(model, manifest)
    vocabulary = len(model.load_tokenizer())
    if top_k is not None and top_k >= vocabulary:
        raise ConfigError(f"top_k: got {top_k}; give less than the {vocabulary} tokens of the vocabulary")
    directory = column_directory(rows, split, column if top_k is None else of_distributions(column))
    strategy: Any = DDPStrategy(timeout=_TIMEOUT) if devices * num_nodes > 1 else "auto"
    fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=num_nodes, strategy=strategy)
    facts = ColumnFacts(
        rows=manifest.fingerprints[split],
        tokenizer=manifest.tokenizer,
        model="",
        document_attention=document_attention,
        dtype=dtype,
        num_rows=len(packed),
        rows_per_shard=rows_per_shard,
        sequence_length=manifest.sequence_length,
        top_k=top_k,
    )
    with writing(directory) if fabric.global_rank == 0 else nullcontext():
        if fabric.global_rank == 0:
            _require_space(directory, facts)
        fabric.launch()
        reference.load(model, fabric.device)
        forward = forward_flops(reference.model, manifest.sequence_length)
        facts = replace(facts, model=reference.weights_hash(), forward_flops=forward)
        if has_facts(directory) and read_facts(directory) != facts:
            raise ConfigError(f"column: {directory} holds other scores ({read_facts(directory)}); name another column")
        rows_per_batch = max(1, batch_tokens // facts.sequence_length)
        said = _nlls(reference) if top_k is None else _tops(reference, top_k, vocabulary)
        scorer = _Scorer(
            aligned.nll if aligned else said, packed, Collate(document_attention), rows_per_batch, fabric.device
        )
        _write_shards(directory, facts, scorer, fabric)
        if aligned:
            _write_spread(
                directory.with_name(f"{directory.name}_spread"), facts, replace(scorer, score=aligned.spread), fabric
            )
        if verify and fabric.is_global_zero:
            _verify(directory, scorer, min(verify, len(packed)))
        fabric.barrier()
    return directory


def _nlls(reference: LiveReference) -> Callable[[Batch], np.ndarray]:
    """NLLs of a batch in nats, float32 [rows, time]."""
    return lambda batch: reference.nll(batch).cpu().numpy()


def _tops(reference: LiveReference, k: int, vocabulary: int) -> Callable[[Batch], np.ndarray]:
    """The most likely tokens of a batch, with fields for ids and log-probabilities, [rows, time]."""

    def score(batch: Batch) -> np.ndarray:
        top = reference.top_tokens(batch, k, vocabulary)
        values = np.empty(batch.targets.shape, [(IDS, np.int32, (k,)), (LOG_PROBABILITIES, np.float32, (k,))])
        values[IDS], values[LOG_PROBABILITIES] = top.ids.cpu(), top.log_probabilities.cpu()
        return values

    return score


def _numbers(values: np.ndarray) -> np.ndarray:
    """What of scores can be off by a little: NLLs, [rows, time], or log-probabilities, [rows, time, k]; float32."""
    return (values if values.dtype.names is None else values[LOG_PROBABILITIES]).astype(np.float32)


@dataclass(frozen=True)
class _Scorer:
    """What a frozen model says of rows, a batch at a time."""

    score: Callable[[Batch], np.ndarray]
    rows: PackedRows
    collate: Collate
    rows_per_batch: int
    device: torch.device

    def batches(self, rows: Sequence[int]) -> Iterator[np.ndarray]:
        """Scores in nats, [rows, time], of consecutive batches of ``rows``.

        Raises:
            NonFiniteError: NaN or infinite scores; names the rows.
        """
        for start in range(0, len(rows), self.rows_per_batch):
            chosen = rows[start : start + self.rows_per_batch]
            batch = self.collate([self.rows[row] for row in chosen]).to(self.device)
            values = self.score(batch)
            is_finite = np.isfinite(_numbers(values)).reshape(len(values), -1).all(axis=1)
            broken = batch.rows.cpu().numpy()[~is_finite].tolist()
            if broken:
                raise NonFiniteError(f"model: NaN or infinite NLL in {len(broken)} row(s), the first {broken[:8]}")
            yield values


def _link(rows: str, output: str) -> str:
    """A directory of the same rows with columns of its own; ranks may make it at the same time."""
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("manifest.json", *SPLITS):
        if Path(rows, name).exists():
            with suppress(FileExistsError):
                (directory / name).symlink_to(Path(rows, name).resolve())
    return output


def _require_space(directory: Path, facts: ColumnFacts) -> None:
    row_bytes = facts.sequence_length * facts.stored.itemsize
    needed = sum(len(rows) * row_bytes for index, rows in facts.shards() if not shard_path(directory, index).exists())
    free = shutil.disk_usage(directory).free
    size = f"{facts.num_rows:,} rows x {facts.sequence_length:,} tokens in {facts.dtype}"
    print(f"column {directory.name}: {size}, {needed / 1e6:,.2f} MB to write, {free / 1e6:,.0f} MB free")
    if needed > free:
        raise ConfigError(
            f"column: {directory} needs {needed / 1e6:,.2f} MB, but its disk has {free / 1e6:,.2f} MB free; make room"
            + (", or store float16" if facts.dtype == "float32" else "")
        )


def _write_shards(directory: Path, facts: ColumnFacts, scorer: _Scorer, fabric: Fabric) -> None:
    missing = None
    if fabric.is_global_zero:
        write_facts(directory, facts)
        missing = [(index, rows) for index, rows in facts.shards() if not is_whole(directory, facts, index, len(rows))]
    missing = fabric.broadcast(missing)
    assert missing is not None
    mine = missing[fabric.global_rank :: fabric.world_size]
    tokens = sum(len(rows) for _, rows in mine) * facts.sequence_length
    bar = progress(f"scoring {directory.name}", tokens, "token", disable=not fabric.is_global_zero)
    start = time.perf_counter()
    with bar:
        for index, rows in mine:
            values = []
            for scores in scorer.batches(rows):
                values.append(scores.astype(facts.stored))
                bar.update(scores.size)
            write_shard(directory, index, np.concatenate(values))
    fabric.barrier()
    tokens, seconds = sum(len(rows) for _, rows in missing) * facts.sequence_length, time.perf_counter() - start
    rate = f"{tokens / seconds:,.0f} tokens/s on {fabric.world_size} device(s)"
    fabric.print(
        f"scored {tokens:,} tokens in {seconds:.1f} s, {rate}" if missing else "all shards had been written before"
    )


def _write_spread(directory: Path, facts: ColumnFacts, scorer: _Scorer, fabric: Fabric) -> None:
    """The column that says which NLLs were shared out by bytes, and how many they are."""
    with writing(directory) if fabric.global_rank == 0 else nullcontext():
        _write_shards(directory, replace(facts, forward_flops=0.0), scorer, fabric)
        if fabric.is_global_zero:
            column, rows = ScoreColumn(directory), range(facts.num_rows)
            spread = sum(int(column[row].sum(dtype=np.float32)) for row in rows)
            print(
                f"{spread:,} of {len(rows) * facts.sequence_length:,} tokens: their bounds are not the model's, so "
                f"that NLLs were shared out by bytes; column {directory.name} has 1 there"
            )


def _verify(directory: Path, scorer: _Scorer, num_rows: int) -> None:
    column = ScoreColumn(directory)
    rows = sorted(np.random.default_rng().choice(column.facts.num_rows, num_rows, replace=False).tolist())
    again = _numbers(np.concatenate(list(scorer.batches(rows))))
    difference = np.abs(_numbers(np.stack([column[row] for row in rows])) - again).reshape(num_rows, -1)
    worst = rows[difference.max(axis=1).argmax()]
    print(
        f"verified {num_rows:,} rows: they differ from a second scoring by at most {difference.max():.2e} nats "
        f"(row {worst}), {difference.mean():.2e} on average"
    )
