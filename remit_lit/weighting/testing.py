"""The contract that every strategy keeps, for tests of your own: ``check_strategy(MyWeighting())``."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from remit_lit.losses import IGNORE_INDEX
from remit_lit.weighting.base import RowScores, TokenSignals, TokenWeighting
from remit_lit.weighting.checks import checked_weights, fault, faults

# NLLs of real models, with 0 and ties among them, and some that no model should give.
_NLLS = st.one_of(st.sampled_from([0.0, 1.0, 12.0, 200.0]), st.floats(0, 30, width=32))
_ROUNDING = 1e-5


def check_strategy(weighting: TokenWeighting, *, examples: int = 100) -> None:
    """Try a strategy on generated batches, the same ones each time, and show the smallest that breaks the contract.

    Weights are one float32 or float64 each, finite, at least 0, and 0 where no token counts. They are constants unless
    ``detach`` is False. What uncounted tokens hold changes nothing, not even NaN. The signals are left as they are.
    With scope "row" each row is weighed as if it were alone (not asked where random numbers are drawn). The normaliser
    is one finite number, above 0 where any weight is. A strategy that chooses rows gives ascending numbers of rows that
    exist, or None.

    Args:
        weighting: with the settings to be tried.
        examples: batches to try.

    Raises:
        AssertionError: the contract is broken; with the batch.
        ConfigError: the weights have another form than one for each token.
    """
    quiet = [HealthCheck.too_slow, HealthCheck.differing_executors]
    tried = settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=quiet,
    )

    @tried
    @given(signals(weighting))
    def weighs(batch: TokenSignals) -> None:
        _check_weights(weighting, batch)

    @tried
    @given(st.lists(st.tuples(_NLLS, _NLLS), min_size=1, max_size=12))
    def selects(means: list[tuple[float, float]]) -> None:
        _check_selection(weighting, means)

    checks: list[Callable[[], None]] = [weighs, selects] if weighting.selects_rows else [weighs]
    for check in checks:
        check()


@st.composite
def signals(draw: st.DrawFn, weighting: TokenWeighting) -> TokenSignals:
    """Batches of 1 to 4 rows of 1 to 8 tokens, any of which may be uncounted or neutral, and open a document.

    Of entropies and columns there are those that the strategy reads, with the values of other tokens' NLLs.
    """
    rows, time = draw(st.integers(1, 4)), draw(st.integers(1, 8))

    def table(values: st.SearchStrategy[float] | st.SearchStrategy[bool]) -> Tensor:
        row = st.lists(values, min_size=time, max_size=time)
        return torch.tensor(draw(st.lists(row, min_size=rows, max_size=rows)))

    policy_nll, mask = table(_NLLS), table(st.booleans())
    asked: dict[str, Any] = {name: policy_nll.flip(1) for name in weighting.signals}
    return TokenSignals(
        policy_nll=policy_nll,
        mask=mask,
        reference_nll=table(_NLLS),
        segment_ids=table(st.booleans()).long().cumsum(1),
        neutral=table(st.booleans()),
        targets=torch.arange(rows * time).view(rows, time).where(mask, IGNORE_INDEX),
        columns={name: policy_nll.flip(0) for name in weighting.columns},
        progress=draw(st.sampled_from([0.0, 0.5, 0.99])),
        **asked,
    )


def _weigh(weighting: TokenWeighting, batch: TokenSignals) -> tuple[Tensor, bool]:
    """Weights from a fixed seed, and whether random numbers were drawn for them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        before = torch.get_rng_state()
        weights = checked_weights(weighting, batch)
        return weights, not torch.equal(torch.get_rng_state(), before)


def _check_weights(weighting: TokenWeighting, batch: TokenSignals) -> None:
    before = {field: value.clone() for field, value in batch.tensors.items()}
    weights, is_random = _weigh(weighting, batch)
    name = type(weighting).__name__
    wrong = fault(weighting, faults(weights, batch).tolist(), range(len(weights)))
    assert wrong is None, wrong
    assert all(torch.equal(batch.tensors[field], value) for field, value in before.items()), (
        f"{name} changes its signals"
    )
    grown = replace(batch, policy_nll=batch.policy_nll.clone().requires_grad_())
    assert not (weighting.detach and _weigh(weighting, grown)[0].requires_grad), (
        f"{name} sends gradients though it detaches"
    )
    broken = batch.each(lambda value: value.where(batch.mask, torch.nan) if value.is_floating_point() else value)
    assert torch.equal(_weigh(weighting, broken)[0], weights), f"{name} reads uncounted tokens"
    if not weighting.needs_reference:
        alone, _ = _weigh(weighting, replace(batch, reference_nll=None))
        assert torch.equal(alone, weights), f"{name} reads reference_nll, so needs_reference must be True"
    if weighting.scope == "row" and not is_random:
        each_alone = [batch.each(_only(row)) for row in range(len(weights))]
        rows = [_weigh(weighting, row)[0] for row in each_alone]
        assert torch.allclose(torch.cat(rows), weights, rtol=0, atol=_ROUNDING), (
            f"{name} weighs a row by other rows: its scope must be 'batch' or 'step'"
        )
    normalizer = weighting.normalizer(weights, batch.mask)
    assert normalizer.numel() == 1 and bool(torch.isfinite(normalizer)), f"{name}.normalizer gives {normalizer}"
    assert normalizer > 0 or not weights.any(), f"{name}.normalizer gives {normalizer.item()} for weights above 0"


def _only(row: int) -> Callable[[Tensor], Tensor]:
    return lambda value: value[row : row + 1]


def _check_selection(weighting: TokenWeighting, means: list[tuple[float, float]]) -> None:
    base, reference = (torch.tensor(values) for values in zip(*means, strict=True))
    chosen = weighting.select_rows(RowScores(base, reference))
    if chosen is None:
        return
    numbers = chosen.tolist()
    assert numbers and numbers == sorted(set(numbers)), f"{numbers}: rows must be ascending, each once, at least one"
    assert numbers[0] >= 0 and numbers[-1] < len(means), f"{numbers}: there are {len(means)} rows"
