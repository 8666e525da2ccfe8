"""What weights must be whatever strategy made them: one each, finite, not negative, and 0 where no token counts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from remit_lit.errors import ConfigError
from remit_lit.weighting.base import TokenSignals, TokenWeighting

KINDS = ("NaN or infinite", "negative", "not 0 where no token counts")
"""Of weights that cannot be trained with."""


def checked_weights(weighting: TokenWeighting, signals: TokenSignals) -> Tensor:
    """The strategy's weights, [batch, time], of which the form is checked; their values are not looked at.

    Raises:
        ConfigError: no tensor, or one of another shape, type or device than a weight for each token; names the class.
    """
    weights = weighting.weights(signals)
    name, shape = type(weighting).__name__, list(signals.mask.shape)
    if not isinstance(weights, Tensor):
        raise ConfigError(
            f"model.weighting: {name}.weights gave a {type(weights).__name__}; give a tensor [batch, time]"
        )
    if list(weights.shape) != shape:
        raise ConfigError(
            f"model.weighting: {name}.weights gave the shape {list(weights.shape)} for tokens of shape {shape}; "
            "give one weight for each token, [batch, time]"
        )
    if weights.dtype not in (torch.float32, torch.float64):
        raise ConfigError(f"model.weighting: {name}.weights gave {weights.dtype}; give torch.float32")
    if weights.device != signals.mask.device:
        raise ConfigError(
            f"model.weighting: {name}.weights gave a tensor on {weights.device} for tokens on {signals.mask.device}; "
            "make tensors from those of the signals"
        )
    return weights


def faults(weights: Tensor, signals: TokenSignals) -> Tensor:
    """What is wrong with the values of some weights, found on their device, float64 [kinds, batch + 1].

    Of each of ``KINDS`` 1 for every row that has such a weight, 0 for the others, and then the first such weight.
    Weights that are not finite are laid to the strategy only where all NLLs are.

    Args:
        weights: of a strategy's making, [batch, time].
        signals: that it saw, each [batch, time].
    """
    known = torch.isfinite(torch.where(signals.mask, signals.policy_nll, 0)).all()
    wrong = torch.stack(
        [
            ~torch.isfinite(weights) & known,
            weights < 0,
            (weights != 0) & ~signals.mask & torch.isfinite(weights),
        ]
    )  # [kinds, batch, time]
    first = wrong.flatten(1).to(torch.uint8).argmax(1, keepdim=True)
    return torch.cat([wrong.any(2).double(), weights.flatten().take(first).double()], dim=1)


def fault(weighting: TokenWeighting, found: Sequence[Sequence[float]], rows: Sequence[int]) -> str | None:
    """What :func:`faults` found in words, naming the class and the rows; None if it is nothing.

    Args:
        weighting: the strategy.
        found: by kind the rows' flags and a weight, [kinds, batch + 1].
        rows: numbers of the rows, [batch].
    """
    for kind, (*flags, example) in zip(KINDS, found, strict=True):
        if any(flags):
            broken = [row for row, flag in zip(rows, flags, strict=True) if flag]
            return (
                f"model.weighting: {type(weighting).__name__} gave weights that are {kind} in row(s) {broken[:8]}, "
                f"such as {example:g}; give finite weights of at least 0, and 0 where the mask is False "
                "(TokenSignals.settle does that)"
            )
    return None
