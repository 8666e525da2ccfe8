"""What weights must be whatever strategy made them: one each, finite, not negative, and 0 where no token counts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from remit_lit.errors import ConfigError
from remit_lit.weighting.base import TokenSignals, TokenWeighting


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


def fault(weighting: TokenWeighting, weights: Tensor, signals: TokenSignals, rows: Sequence[int]) -> str | None:
    """What is wrong with the values of some weights, naming the class and the rows; None if nothing is.

    Weights that are not finite are laid to the strategy only where all NLLs are.

    Args:
        weighting: the strategy.
        weights: of its making, [batch, time].
        signals: that it saw, each [batch, time].
        rows: numbers of the rows, [batch].
    """
    known = torch.isfinite(torch.where(signals.mask, signals.policy_nll, 0)).all()
    wrong = {
        "NaN or infinite": ~torch.isfinite(weights) & known,
        "negative": weights < 0,
        "not 0 where no token counts": (weights != 0) & ~signals.mask & torch.isfinite(weights),
    }
    if not torch.stack(list(wrong.values())).any():
        return None
    kind, places = next((kind, places) for kind, places in wrong.items() if places.any())
    found = [row for row, broken in zip(rows, places.any(dim=1).tolist(), strict=True) if broken]
    return (
        f"model.weighting: {type(weighting).__name__} gave weights that are {kind} in row(s) {found[:8]}, such as "
        f"{weights[places][0].item():g}; give finite weights of at least 0, and 0 where the mask is False "
        "(TokenSignals.settle does that)"
    )
