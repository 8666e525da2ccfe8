"""The contract holds for every shipped strategy, and a strategy that breaks it is found out."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import hypothesis
import pytest
import torch
from torch import Tensor

from remit_lit.errors import ConfigError
from remit_lit.weighting import (
    DFT,
    ESLM,
    RLSD,
    LongRange,
    MiniPLM,
    NextTokenPrediction,
    ReMiT,
    Rho1,
    RowScores,
    ShuffledReMiT,
    TokenFilter,
    TokenSignals,
)
from remit_lit.weighting.testing import check_strategy
from tests.weighting.custom_strategy import HardTokens

SHIPPED = [
    NextTokenPrediction(),
    MiniPLM(),
    *(ReMiT(center=center) for center in ("row", "segment", "none", "standardized")),
    ReMiT(clip=False, slope=3.0),
    ReMiT(detach=False),
    ReMiT(delta="reference"),
    ShuffledReMiT(),
    *(Rho1(scope=scope) for scope in ("row", "batch", "step")),
    DFT(),
    *(ESLM(0.5, scope=scope) for scope in ("row", "batch", "step")),
    ESLM(risk="entropy"),
    RLSD(),
    LongRange(),
    TokenFilter(threshold=3.0),
    HardTokens(),
]


@pytest.mark.parametrize("strategy", SHIPPED, ids=lambda s: "-".join(map(str, [type(s).__name__, *vars(s).values()])))
def test_shipped_strategies_keep_the_contract(strategy):
    check_strategy(strategy, examples=40)


@pytest.fixture
def first_found() -> Iterator[None]:
    """Failures come with the first batch that is found: the smallest takes a hundred times as long."""
    hypothesis.settings.register_profile("first-found", phases=[hypothesis.Phase.generate])
    hypothesis.settings.load_profile("first-found")
    yield
    hypothesis.settings.load_profile("default")


class Broken(NextTokenPrediction):
    """Next-token prediction but for one thing."""

    def __init__(self, change: Any, **attributes: Any) -> None:
        self.change = change
        for name, value in attributes.items():
            setattr(self, name, value)

    def weights(self, signals: TokenSignals) -> Tensor:
        found: Tensor = self.change(signals)
        return found


def reads_other_rows(signals: TokenSignals) -> Tensor:
    nll = torch.where(signals.mask, signals.policy_nll, 0.0)
    return (nll >= nll.max()).float() * signals.mask


def changes_its_signals(signals: TokenSignals) -> Tensor:
    signals.policy_nll.add_(1.0)
    return signals.mask.float()


def reads_the_reference(signals: TokenSignals) -> Tensor:
    asked = signals.reference_nll is not None and bool(signals.mask.any())
    return signals.mask.float() * (2.0 if asked else 1.0)


@pytest.mark.usefixtures("first_found")
@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (Broken(lambda s: s.mask.float()[:, :1]), "gave the shape"),
        (Broken(lambda s: s.mask.float().half()), "torch.float16; give torch.float32"),
        (Broken(lambda s: s.mask * (5 - s.policy_nll.detach().nan_to_num())), "that are negative"),
        (Broken(lambda s: s.mask / s.policy_nll.detach().nan_to_num()), "NaN or infinite"),
        (Broken(lambda s: torch.ones_like(s.policy_nll)), "not 0 where no token counts"),
        (Broken(reads_other_rows), "its scope must be 'batch' or 'step'"),
        (Broken(changes_its_signals), "changes its signals"),
        (Broken(lambda s: s.mask * s.policy_nll.exp().clamp(max=9)), "sends gradients though it detaches"),
        (Broken(lambda s: s.mask * (1.0 + s.policy_nll.detach().isnan().any())), "reads uncounted tokens"),
        (Broken(reads_the_reference), "needs_reference must be True"),
        (Broken(lambda s: s.mask.float(), normalizer=lambda weights, mask: 0 * weights.sum()), "normalizer gives"),
    ],
)
def test_a_broken_strategy_is_found_out(strategy, message):
    with pytest.raises((AssertionError, ConfigError), match=message):
        check_strategy(strategy)


def test_the_smallest_batch_is_shown():
    with pytest.raises(ConfigError, match=r"gave the shape \[1, 1\] for tokens of shape \[1, 2\]"):
        check_strategy(Broken(lambda s: s.mask.float()[:, :1]))


def test_a_scope_of_all_rows_may_read_all_rows():
    check_strategy(Broken(reads_other_rows, scope="batch"))


class Chooses(MiniPLM):
    def __init__(self, choose: Any) -> None:
        self.choose = choose

    def select_rows(self, scores: RowScores) -> Any:
        return self.choose(len(scores.base_nll))


@pytest.mark.usefixtures("first_found")
@pytest.mark.parametrize(
    "choose", [lambda n: torch.zeros(0), lambda n: torch.arange(n + 1), lambda n: torch.arange(n).flip(0)]
)
def test_rows_that_do_not_exist_or_are_out_of_order_are_found_out(choose):
    with pytest.raises(AssertionError, match="rows"):
        check_strategy(Chooses(choose), examples=20)
    check_strategy(Chooses(lambda n: None), examples=20)


def test_the_same_batches_are_tried_each_time():
    def record() -> list[TokenSignals]:
        seen: list[TokenSignals] = []

        def keep(signals: TokenSignals) -> Tensor:
            seen.append(replace(signals))
            return signals.mask.float()

        check_strategy(Broken(keep), examples=5)
        return seen

    first, second = record(), record()
    assert len(first) == len(second) > 5
    assert all(
        torch.equal(a.policy_nll.nan_to_num(), b.policy_nll.nan_to_num()) for a, b in zip(first, second, strict=True)
    )
