"""The strategies' formulas once more, written as loops over Python floats, and random scores to try them on."""

import math
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from remit_lit.weighting import TokenSignals

Rows = list[list[float]]


def random_signals(
    seed: int, *, rows: int = 6, time: int = 23, dtype: torch.dtype = torch.float32, ties: bool = False
) -> Any:
    """TokenSignals with every field, of rows with several documents.

    One row has no counted token, one no ranked token, one a single ranked token. With ``ties`` the scores are small
    whole numbers, so that many excess losses are equal.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform() -> Tensor:
        return torch.rand(rows, time, generator=generator)

    policy_nll, reference_nll = uniform() * 6, uniform() * 6
    if ties:
        policy_nll, reference_nll = policy_nll.round(), reference_nll.round()
    mask, neutral = uniform() < 0.8, uniform() < 0.2
    mask[1], neutral[2], mask[2] = False, True, True
    mask[3], neutral[3] = False, False
    mask[3, time // 2] = True
    opens = uniform() < 0.2
    opens[:, 0] = False
    segment_ids = opens.long().cumsum(1)
    mask[4] &= segment_ids[4] != 1
    neutral[5] |= segment_ids[5] == 0
    entropy = (uniform() * 6).to(dtype)
    return TokenSignals(
        policy_nll.to(dtype), mask, reference_nll.to(dtype), segment_ids, neutral, policy_entropy=entropy
    )


def _ranked(signals: TokenSignals) -> list[list[bool]]:
    mask = signals.mask.tolist()
    if signals.neutral is None:
        return mask
    return [
        [m and not n for m, n in zip(*pair, strict=True)] for pair in zip(mask, signals.neutral.tolist(), strict=True)
    ]


def _excess(signals: TokenSignals) -> Rows:
    assert signals.reference_nll is not None
    policy, reference = signals.policy_nll.tolist(), signals.reference_nll.tolist()
    return [[p - r for p, r in zip(*pair, strict=True)] for pair in zip(policy, reference, strict=True)]


def _settled(signals: TokenSignals, ranked_weights: dict[tuple[int, int], float]) -> Rows:
    mask = signals.mask.tolist()
    return [
        [ranked_weights.get((b, t), 1.0) if counted else 0.0 for t, counted in enumerate(row)]
        for b, row in enumerate(mask)
    ]


def ntp(signals: TokenSignals) -> Rows:
    return _settled(signals, {})


def remit(
    signals: TokenSignals,
    *,
    epsilon: float = 0.2,
    slope: float = 1.0,
    center: str = "row",
    clip: bool = True,
    delta: str = "excess",
) -> Rows:
    ranked, excess = _ranked(signals), _excess(signals)
    if delta == "reference":
        assert signals.reference_nll is not None
        excess = [[-value for value in row] for row in signals.reference_nll.tolist()]
    segments = None if signals.segment_ids is None else signals.segment_ids.tolist()
    weights = {}
    for b, row in enumerate(ranked):
        places = [t for t, is_ranked in enumerate(row) if is_ranked]
        for t in places:
            if center == "none":
                mean = 0.0
            elif center in ("row", "standardized"):
                mean = math.fsum(excess[b][s] for s in places) / len(places)
            else:
                assert segments is not None
                same = [s for s in places if segments[b][s] == segments[b][t]]
                mean = math.fsum(excess[b][s] for s in same) / len(same)
            centered = excess[b][t] - mean
            if center == "standardized" and len(places) > 1:
                centered /= math.sqrt(math.fsum((excess[b][s] - mean) ** 2 for s in places) / len(places))
            weight = 2.0 / (1.0 + math.exp(-slope * centered))
            weights[b, t] = min(max(weight, 1.0 - epsilon), 1.0 + epsilon) if clip else weight
    return _settled(signals, weights)


def rho1(signals: TokenSignals, *, keep: float = 0.6, scope: str = "batch") -> Rows:
    excess = _excess(signals)
    by_row = [[(b, t) for t, is_ranked in enumerate(row) if is_ranked] for b, row in enumerate(_ranked(signals))]
    weights = {}
    for places in by_row if scope == "row" else [list(chain.from_iterable(by_row))]:
        best = sorted(places, key=lambda place: (-excess[place[0]][place[1]], place))
        kept = max(1, math.floor(keep * len(places) + 0.5))
        weights.update({place: float(rank < kept) for rank, place in enumerate(best)})
    return _settled(signals, weights)


def dft(signals: TokenSignals) -> Rows:
    nll = signals.policy_nll.tolist()
    ranked = [(b, t) for b, row in enumerate(_ranked(signals)) for t, is_ranked in enumerate(row) if is_ranked]
    return _settled(signals, {(b, t): math.exp(-nll[b][t]) for b, t in ranked})


def rlsd(signals: TokenSignals, *, epsilon: float = 0.2) -> Rows:
    excess = _excess(signals)
    ranked = [(b, t) for b, row in enumerate(_ranked(signals)) for t, is_ranked in enumerate(row) if is_ranked]
    ratios = {(b, t): math.exp(excess[b][t]) for b, t in ranked}
    return _settled(signals, {place: min(max(r, 1 - epsilon), 1 + epsilon) for place, r in ratios.items()})


def long_range(signals: TokenSignals, *, floor: float = 0.75) -> Rows:
    excess = _excess(signals)
    weights = {}
    for b, row in enumerate(_ranked(signals)):
        scores = {t: abs(excess[b][t]) for t, is_ranked in enumerate(row) if is_ranked}
        total = math.fsum(scores.values())
        for t, score in scores.items():
            weights[b, t] = floor + (1 - floor) * (len(scores) * score / total if total else 1.0)
    return _settled(signals, weights)


def token_filter(signals: TokenSignals, *, column: str, threshold: float) -> Rows:
    labels = signals.columns[column].tolist()
    ranked = [(b, t) for b, row in enumerate(_ranked(signals)) for t, is_ranked in enumerate(row) if is_ranked]
    return _settled(signals, {(b, t): 0.0 if labels[b][t] >= threshold else 1.0 for b, t in ranked})


def eslm(signals: TokenSignals, *, alpha: float = 0.1, risk: str = "loss", scope: str = "batch") -> Rows:
    scores = signals.policy_nll if risk == "loss" else signals.policy_entropy
    assert scores is not None
    by_row = [
        [((b, t), scores[b][t].item()) for t, is_ranked in enumerate(row) if is_ranked]
        for b, row in enumerate(_ranked(signals))
    ]
    weights = {}
    for tokens in by_row if scope == "row" else [list(chain.from_iterable(by_row))]:
        for place, score in tokens:
            # The value at risk is the least score that a share alpha does not exceed; those at or above it stay.
            not_exceeding = [x for _, x in tokens if sum(y <= x for _, y in tokens) >= alpha * len(tokens)]
            weights[place] = float(score >= min(not_exceeding))
    return _settled(signals, weights)


def miniplm(base: list[float], reference: list[float], keep: float) -> list[int]:
    best = sorted(range(len(base)), key=lambda row: (reference[row] - base[row], row))
    return sorted(best[: max(1, math.floor(keep * len(base) + 0.5))])
