"""Hours, disk and failures of the whole pipeline, by arithmetic: what each stage moves, over what a machine moves."""

import math
from dataclasses import dataclass

from remit_lit.estimate.rates import Rates

_HOUR = 3600
_TOKEN_BYTES, _SCORE_BYTES = 4, 2  # int32 in rows, float16 in a column
_GRADIENT_BYTES = 4  # summed in float32 (docs/guides/scale.md)
_NODE = 8  # GPUs that NVLink connects
_ARROW_FILE, _COLUMN_ROWS = 500e6, 1024  # save_to_disk of `datasets`, and `score`'s rows_per_shard


@dataclass(frozen=True)
class Scale:
    """A model, how it is trained, and how much.

    Attributes:
        tokens: of mid-training.
        parameters: of the model.
        trained: of them, with gradients.
        step_flops: of a token in ``fit``, frozen models included.
        forward_flops: of a token in a forward pass of the model.
        tokens_per_step: of an optimizer step.
        sequence_length: of a row.
        checkpoint: bytes of a checkpoint.
        gpu_flops: FLOP/s that a GPU reaches.
    """

    tokens: float
    parameters: int
    trained: int
    step_flops: float
    forward_flops: float
    tokens_per_step: int
    sequence_length: int
    checkpoint: float
    gpu_flops: float


@dataclass(frozen=True)
class Time:
    """Hours of a stage, and what takes them."""

    hours: float
    bound: str


def stages(scale: Scale, rates: Rates, gpus: int) -> dict[str, Time]:
    """How long each stage takes where what goes on at the same time is as slow as its slowest.

    ``prepare`` is reckoned on one node, ``score`` and ``fit`` on all GPUs, post-training and an evaluation on one GPU.
    """
    fit = fit_seconds(scale, rates, gpus)
    sampled = sampling_rate(scale, rates)
    return {
        "prepare": _slowest(
            {
                "cores": scale.tokens / (rates.tokenized * rates.prepare_cores),
                "disk": scale.tokens * _TOKEN_BYTES / rates.disk,
            }
        ),
        "score": _slowest(
            {
                "FLOPs": scale.tokens * scale.forward_flops / (gpus * scale.gpu_flops),
                "disk": scale.tokens * (_TOKEN_BYTES + _SCORE_BYTES) / rates.disk,
            }
        ),
        "fit": _slowest(fit),
        "posttrain": _sum(
            {
                "FLOPs": rates.posttrain_tokens * 3 * scale.forward_flops / scale.gpu_flops,
                "sampling": rates.sampled_tokens / sampled,
            }
        ),
        "evaluate": _sum(
            {
                "FLOPs": rates.evaluated_tokens * scale.forward_flops / scale.gpu_flops,
                "sampling": rates.answered_tokens / sampled,
            }
        ),
    }


def fit_seconds(scale: Scale, rates: Rates, gpus: int) -> dict[str, float]:
    """What a run would take if only one thing took time.

    Gradients are summed by a ring: each GPU sends ``2 (N - 1) / N`` of them in each step.
    """
    steps = scale.tokens / scale.tokens_per_step
    sent = 2 * (gpus - 1) / gpus * scale.trained * _GRADIENT_BYTES
    return {
        "FLOPs": scale.tokens * scale.step_flops / (gpus * scale.gpu_flops),
        "network": steps * sent / (rates.nvlink if gpus <= _NODE else rates.network),
        "loading": scale.tokens / (gpus * rates.loaded),
        "disk": scale.tokens * (_TOKEN_BYTES + _SCORE_BYTES) / rates.disk,
    }


def sampling_rate(scale: Scale, rates: Rates) -> float:
    """Tokens a second of one GPU, which reads all bfloat16 weights for each token of the answers sampled together."""
    return rates.sampled_at_once * rates.gpu_bandwidth * rates.sampling_share / (2 * scale.parameters)


@dataclass(frozen=True)
class Failures:
    """What failures do to a run.

    Attributes:
        between: seconds between failures.
        number: that are expected.
        write: seconds in which a checkpoint is written.
        interval: seconds of training between checkpoints that lose least.
        seconds: of the run with checkpoints at that interval, failures and restarts.
    """

    between: float
    number: float
    write: float
    interval: float
    seconds: float


def failures(scale: Scale, rates: Rates, gpus: int, seconds: float) -> Failures:
    """Of a run that would take ``seconds`` without any.

    The time is that of Daly's complete model, for failures without memory (doi:10.1016/j.future.2004.11.016).
    """
    between = rates.gpu_hours_between_failures * _HOUR / gpus
    write = scale.checkpoint / rates.disk
    interval = daly_interval(write, between)
    per_piece = math.expm1((interval + write) / between) * between * math.exp(rates.restart_seconds / between)
    taken = seconds / interval * per_piece
    return Failures(between, taken / between, write, interval, taken)


def daly_interval(write: float, between: float) -> float:
    """Seconds of training between checkpoints that take ``write``, with ``between`` from failure to failure.

    Daly's higher order estimate (doi:10.1016/j.future.2004.11.016) of what loses least; its first term is Young's
    square root (doi:10.1145/361147.361115).
    """
    if write >= 2 * between:
        return between
    ratio = write / (2 * between)
    return math.sqrt(2 * write * between) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - write


def files(scale: Scale) -> dict[str, tuple[float, int]]:
    """Bytes and files of what lies on the disk before training: rows, and a column of scores."""
    rows = scale.tokens * _TOKEN_BYTES
    return {
        "rows": (rows, math.ceil(rows / _ARROW_FILE)),
        "a score column": (
            scale.tokens * _SCORE_BYTES,
            math.ceil(scale.tokens / scale.sequence_length / _COLUMN_ROWS),
        ),
    }


def _slowest(seconds: dict[str, float]) -> Time:
    bound = max(seconds, key=lambda name: seconds[name])
    return Time(seconds[bound] / _HOUR, bound)


def _sum(seconds: dict[str, float]) -> Time:
    return Time(sum(seconds.values()) / _HOUR, _slowest(seconds).bound)
