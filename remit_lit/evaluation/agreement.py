"""``agreement``: how near a model is to a reference on prepared rows, over the whole vocabulary."""

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from rich.table import Table
from torch import Tensor
from torch.nn.functional import kl_div

from remit_lit.data.manifest import SPLITS, Manifest, read_manifest
from remit_lit.data.progress_bar import progress
from remit_lit.data.rows import Collate, PackedRows, open_rows
from remit_lit.errors import ConfigError, NonFiniteError, not_among, require_at_least
from remit_lit.evaluation.log_ratios import LogRatios
from remit_lit.evaluation.results import Evaluation, Histogram, Metric, TaskResult
from remit_lit.losses import IGNORE_INDEX
from remit_lit.models.export import as_model
from remit_lit.models.loss_head import hidden_states, loss_head
from remit_lit.models.spec import ModelSpec, label
from remit_lit.reference.reading import check_reads
from remit_lit.reference.reference import LiveReference
from remit_lit.runs.provenance import now, provenance
from remit_lit.terminal import console

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TASK, KL, TOP1, LOG_RATIO = "agreement", "kl", "top1_agreement", "log_ratio"
_PACKAGES = ("torch", "transformers", "tokenizers", "datasets")


class TokenAgreement(NamedTuple):
    """How near two models are at each position; 0 where there is no target.

    Attributes:
        kl: KL(reference || model), nats, float64 [batch, time].
        top1: 1 where both find the same token the likeliest, else 0, float64 [batch, time].
        log_ratio: log p_reference - log p_model of the target, nats, float64 [batch, time].
    """

    kl: Tensor
    top1: Tensor
    log_ratio: Tensor


# From a model's inputs and the targets of a batch.
Measure = Callable[[dict[str, Tensor], Tensor], TokenAgreement]


def agreement(
    rows: str,
    reference: ModelSpec,
    model: ModelSpec,
    output: str,
    split: Literal["train", "validation"] = "validation",
    limit: int | None = None,
    batch_size: int = 8,
    document_attention: bool = True,
    accelerator: str = "auto",
    overwrite: bool = False,
) -> Path:
    """Measure KL(reference || model) in nats per token, and how often both models rank the same token first.

    An outcome is the mean over a row, weighted by its number of targets. A histogram keeps how the targets' log ratio,
    log p_reference - log p_model, is distributed (ReMiT, arXiv:2602.03075, figure 2).

    Args:
        rows: the directory of prepared rows.
        reference: the frozen model to compare with, e.g. the RL-tuned one; of a hub id, revision says which.
        model: the model to measure, before or after mid-training or post-training; its path is a hub id, a local
            directory, a run folder, or a checkpoint of a run.
        output: the JSON file to write, like that of ``evaluate``.
        split: the rows to read: train or validation.
        limit: how many rows to take from the start; null takes all.
        batch_size: how many rows are processed at a time; lower it when memory runs out.
        document_attention: let tokens attend only to their own document.
        accelerator: cpu or gpu; auto uses a GPU if there is one.
        overwrite: replace the file if it exists.

    Returns:
        The file.

    Raises:
        ConfigError: a model does not read the rows, the models' vocabularies differ, the file exists, or a number is
            below 1.
        DataError: a checkpoint is damaged.
        NonFiniteError: a model's distribution is not finite; names the rows.
    """
    arguments = {name: value for name, value in locals().items() if name not in ("reference", "model")}
    for field, value in (("limit", limit), ("batch_size", batch_size)):
        require_at_least(field, value, 1)
    if split not in SPLITS:
        raise ConfigError(f"split: {not_among(split, SPLITS)}")
    path = Path(output)
    if path.is_dir() or (path.exists() and not overwrite):
        raise ConfigError(f"output: {output} exists; give another file, or --overwrite=true")
    from lightning.fabric import Fabric  # only here: tables and post-training, which read figures, need not wait for it

    manifest = read_manifest(rows)
    packed = open_rows(rows, split, [], document_attention)
    number = len(packed) if limit is None else min(limit, len(packed))
    with as_model(model) as spec:
        _require_comparable(reference, spec, manifest)
        device = Fabric(accelerator=accelerator, devices=1).device
        target, compared = LiveReference(reference), LiveReference(spec)
        target.field, compared.field = "reference", "model"
        for frozen in (target, compared):
            frozen.load(frozen.spec, device)
        start = time.perf_counter()
        metrics, log_ratios = _by_row(
            partial(token_agreement, target.model, compared.model),
            packed,
            number,
            batch_size,
            Collate(document_attention),
            device,
        )
        facts = {
            "model": {**asdict(model), "weights_hash": compared.weights_hash()},
            "reference": {**asdict(reference), "weights_hash": target.weights_hash()},
            "settings": arguments,
            "device": str(device),
            **provenance(_PACKAGES),
            "ended": now(),
            "seconds": round(time.perf_counter() - start, 2),
        }
    settings = {"rows": manifest.fingerprints[split], "split": split, "document_attention": document_attention}
    items = tuple(f"row {row}" for row in range(number))
    result = TaskResult(metrics, items, settings=settings, histograms={LOG_RATIO: log_ratios})
    Evaluation({TASK: result}, facts).write(path)
    _print(result, reference, model)
    return path


@torch.inference_mode()
def token_agreement(
    reference: "PreTrainedModel",
    model: "PreTrainedModel",
    inputs: dict[str, Tensor],
    targets: Tensor,
    chunk_tokens: int = 1024,
) -> TokenAgreement:
    """At each target KL(reference || model), whether both find the same token the likeliest, and its log ratio.

    Args:
        reference: built by :meth:`ModelSpec.load`, as is ``model``; their vocabularies are of one size.
        model: the other.
        inputs: ``input_ids`` and ``position_ids``, int64 [batch, time], on the models' device.
        targets: ``IGNORE_INDEX`` where there is none, int64 [batch, time].
        chunk_tokens: tokens whose logits of both models exist at the same time.
    """
    mask = targets != IGNORE_INDEX
    hidden = [hidden_states(m, inputs)[mask].split(chunk_tokens) for m in (reference, model)]  # [tokens, dim] each
    divergences, agreements, log_ratios = [], [], []
    for *states, tokens in zip(*hidden, targets[mask].split(chunk_tokens), strict=True):
        target, compared = (
            loss_head(m)(h).float().log_softmax(-1) for m, h in zip((reference, model), states, strict=True)
        )  # [tokens, vocab]
        divergences.append(kl_div(compared, target, log_target=True, reduction="none").sum(-1, dtype=torch.float64))
        agreements.append((target.argmax(-1) == compared.argmax(-1)).double())
        of_tokens, others = (of.gather(-1, tokens[:, None])[:, 0].double() for of in (target, compared))
        log_ratios.append(of_tokens - others)
    return TokenAgreement(*(_place(chunks, mask) for chunks in (divergences, agreements, log_ratios)))


def _place(chunks: list[Tensor], mask: Tensor) -> Tensor:
    values = torch.zeros(mask.shape, dtype=torch.float64, device=mask.device)
    if chunks:
        values[mask] = torch.cat(chunks)
    return values


def _by_row(
    measure: Measure, packed: PackedRows, number: int, batch_size: int, collate: Collate, device: torch.device
) -> tuple[dict[str, Metric], Histogram]:
    """Means of the first ``number`` rows, each weighed by its tokens, and the log ratios of all their targets."""
    sums, counts, log_ratios = [], [], LogRatios()
    with progress("rows", number, "row") as bar:
        for start in range(0, number, batch_size):
            chosen = range(start, min(start + batch_size, number))
            batch = collate([packed[row] for row in chosen]).to(device)
            found = measure(batch.inputs, batch.targets)
            sums.append(torch.stack([found.kl.sum(1), found.top1.sum(1)]).cpu())  # [2, rows]
            counts.append(batch.mask.sum(1).cpu())
            broken = (~torch.isfinite(sums[-1][0])).nonzero()[:, 0] + start
            if len(broken):
                raise NonFiniteError(f"KL of row(s) {broken.tolist()} is NaN or infinite; check both models' weights")
            log_ratios.add(found.log_ratio[batch.mask].cpu().numpy())
            bar.update(len(chosen))
    tokens = torch.cat(counts).double()
    means = torch.cat(sums, dim=1) / tokens.clamp(min=1)
    # Near to the reference is neither better nor worse: post-training ends far from a base model, too.
    metrics = {name: Metric(mean.numpy(), None, tokens.numpy()) for name, mean in zip((KL, TOP1), means, strict=True)}
    return metrics, log_ratios.histogram()


def _require_comparable(reference: ModelSpec, model: ModelSpec, manifest: Manifest) -> None:
    sizes = []
    for field, spec in (("reference", reference), ("model", model)):
        spec.check(field)  # before its tokenizer is looked for
        check_reads(field, spec, manifest)
        sizes.append(spec.load_config(field).get_text_config().vocab_size)
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"model: its vocabulary has {sizes[1]} tokens (vocab_size), the reference's has {sizes[0]}; KL compares "
            "distributions over the same tokens, so give models with vocabularies of the same size"
        )


def _print(result: TaskResult, reference: ModelSpec, model: ModelSpec) -> None:
    out, weights = console(), result.metrics[KL].weights
    assert weights is not None
    named, other = (label(spec.path or "a fresh model", spec.revision) for spec in (model, reference))
    out.print(f"model: {named}\nreference: {other}", soft_wrap=True, markup=False)
    table = Table("rows", "tokens", "KL(reference || model), nats/token", "same likeliest token")
    figures = (f"{result.metrics[name].value:.4f}" for name in (KL, TOP1))
    table.add_row(f"{len(result.items):,}", f"{int(weights.sum()):,}", *figures)
    out.print(table)
