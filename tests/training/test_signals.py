"""A strategy gets the signals that it asks for, and nothing else is computed."""

from typing import Any

import pytest
import torch
from torch import Tensor

from remit_lit.errors import ConfigError
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import CachedReference, LiveReference
from remit_lit.reference.score import score
from remit_lit.training.frozen import FrozenModels
from remit_lit.training.objective import weighted_loss
from remit_lit.weighting import ESLM, TokenSignals, TokenWeighting
from tests.helpers import fit, get_batch
from tests.training.plain import live, logits_of

NO_NEUTRAL = torch.zeros(0, dtype=torch.long)


class Asks(TokenWeighting):
    """Keeps what it was given."""

    needs_reference = True

    def __init__(self, signals: Any, columns: Any = (), scope: Any = "row") -> None:
        self.signals, self.columns, self.scope = signals, columns, scope
        self.given: list[TokenSignals] = []

    def weights(self, signals: TokenSignals) -> Tensor:
        self.given.append(signals)
        return signals.mask.float()

    def given_at_once(self, name: str) -> Tensor:
        return torch.cat([signals.tensors[name] for signals in self.given])


def entropy_of(logits: Tensor) -> Tensor:
    return torch.special.entr(logits.detach().softmax(-1)).sum(-1)


@pytest.mark.parametrize("scope", ["row", "batch"], ids=["one pass", "recomputed"])
def test_entropies_of_both_models_are_those_of_their_logits(
    tiny_rows_split, tiny_policy_dir, tiny_reference_dir, scope
):
    policy, reference = ModelSpec(str(tiny_policy_dir)).load(), live(tiny_reference_dir)
    batch = get_batch(tiny_rows_split, range(5))
    asked = Asks(("policy_entropy", "reference_entropy"), scope=scope)
    scores = reference.scores(batch, with_entropy=True)
    assert scores.nll is not None and torch.equal(scores.nll, reference.nll(batch))
    loss = weighted_loss(
        policy,
        batch,
        asked,
        neutral_ids=NO_NEUTRAL,
        reference_nll=scores.nll,
        reference_entropy=scores.entropy,
        progress=0.25,
    )
    for name, model in (("policy_entropy", policy), ("reference_entropy", reference.model)):
        expected = entropy_of(logits_of(model, batch)) * batch.mask
        torch.testing.assert_close(asked.given_at_once(name) * batch.mask, expected, rtol=0, atol=2e-6)
        torch.testing.assert_close(loss.signals.tensors[name] * batch.mask, expected, rtol=0, atol=2e-6)
    assert asked.given[0].progress == 0.25


def test_a_strategy_that_asks_for_nothing_gets_no_entropy(tiny_rows_split, tiny_policy_dir):
    policy, batch = ModelSpec(str(tiny_policy_dir)).load(), get_batch(tiny_rows_split, range(2))
    weighted_loss(policy, batch, asked := Asks(()), neutral_ids=NO_NEUTRAL)
    assert all(signals.policy_entropy is signals.reference_entropy is None for signals in asked.given)


def test_a_column_of_nlls_knows_no_entropy():
    asked = Asks(("reference_entropy",))
    command = r"`python -m remit_lit score .*--column nll_rl --entropy_column NAME` writes one, or give a LiveReference"
    with pytest.raises(
        ConfigError, match=rf"^model\.reference\.entropy_column: missing, and Asks reads.*column nll_rl.*{command}"
    ):
        FrozenModels(asked, CachedReference("nll_rl"))
    FrozenModels(asked, CachedReference("nll_rl", "entropy_rl"))
    FrozenModels(Asks(("policy_entropy",)), CachedReference("nll_rl"))


class Certain(TokenWeighting):
    """Weighs a token by how sure the reference is of it; a nat of entropy moves a weight by less than 1."""

    needs_reference = True
    signals: Any = ("reference_entropy",)

    def __init__(self, scope: Any) -> None:
        self.scope = scope

    def weights(self, signals: TokenSignals) -> Tensor:
        assert signals.reference_entropy is not None
        return signals.settle(torch.exp(-signals.reference_entropy))


@pytest.fixture(scope="module")
def scored(tiny_rows, tiny_policy_dir, tiny_reference_dir, tmp_path_factory) -> str:
    """Rows with columns of NLLs and entropies, of both types and of two models."""
    own = tmp_path_factory.mktemp("scored") / "rows"
    types: dict[str, Any] = {"half": "float16", "exact": "float32"}
    for name, dtype in types.items():
        spec = ModelSpec(str(tiny_reference_dir))
        score(str(tiny_rows), spec, name, dtype=dtype, output=str(own), entropy_column=f"{name}_entropy")
    score(str(own), ModelSpec(str(tiny_policy_dir)), "other", entropy_column="other_entropy")
    return str(own)


@pytest.mark.parametrize("scope", ["row", "step"])
def test_weights_by_a_column_of_entropies_are_those_by_a_live_reference(
    scored, tiny_policy_dir, tiny_reference_dir, tmp_path, scope
):
    references = {
        "live": LiveReference(ModelSpec(str(tiny_reference_dir))),
        "exact": CachedReference("exact", "exact_entropy"),
        "half": CachedReference("half", "half_entropy"),
    }
    weights = {}
    for name, reference in references.items():
        run = fit(scored, tiny_policy_dir, tmp_path / name, steps=3, weighting=Certain(scope), reference=reference)
        weights[name] = torch.stack(run.recorder.weights)
    assert (weights["live"] > 0).any() and (weights["live"] < 0.5).any()
    assert (weights["exact"] - weights["live"]).abs().max() < 1e-6
    # Half a unit in float16's last place, of entropies below log 32 < 4 nats.
    assert 0 < (weights["half"] - weights["live"]).abs().max() <= 2**-10 + 1e-6


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            ("half", "exact"),
            r"^model\.reference\.entropy_column: 'exact' holds no entropies; `python -m remit_lit score",
        ),
        (("half", "other_entropy"), r"entropy_column: 'other_entropy' was scored by another model than 'half'"),
        (("half_entropy", "exact_entropy"), r"^model\.reference\.column: 'half_entropy' holds entropies, not NLLs"),
        (("half", "nowhere"), "no score column 'nowhere'.*write it with `python -m remit_lit score`"),
    ],
)
def test_columns_that_do_not_hold_what_is_read_of_them_are_refused(scored, tiny_policy_dir, tmp_path, columns, message):
    with pytest.raises(ConfigError, match=message):
        fit(scored, tiny_policy_dir, tmp_path, steps=1, weighting=Certain("row"), reference=CachedReference(*columns))


@pytest.mark.parametrize("scope", ["row", "step"])
def test_a_run_reads_columns_entropies_and_progress(tiny_rows, tiny_policy_dir, tiny_reference_dir, tmp_path, scope):
    own = tmp_path / "rows"
    score(str(tiny_rows), ModelSpec(str(tiny_policy_dir)), "first", dtype="float32", output=str(own))
    asked = Asks(("policy_entropy", "reference_entropy"), columns=("first",), scope=scope)
    reference = LiveReference(ModelSpec(str(tiny_reference_dir)))
    fit(own, tiny_policy_dir, tmp_path / "run", steps=4, weighting=asked, reference=reference)
    assert [signals.progress for signals in asked.given] == [0.0, 0.25, 0.5, 0.75]
    first = asked.given[0]
    # The policy has not moved yet, so that it scores as the model that wrote the column.
    torch.testing.assert_close(first.columns["first"] * first.mask, first.policy_nll * first.mask, rtol=0, atol=1e-5)
    assert first.policy_entropy is not None and first.reference_entropy is not None
    assert not torch.allclose(first.policy_entropy, first.reference_entropy)


def test_a_column_that_is_not_there_is_named(tiny_rows, tiny_policy_dir, tmp_path):
    asked = Asks((), columns=("labels",))
    with pytest.raises(ConfigError, match="no score column 'labels'"):
        fit(tiny_rows, tiny_policy_dir, tmp_path, steps=1, weighting=asked, reference=live(tiny_policy_dir))


def test_tokens_of_the_largest_entropy_of_a_step_are_the_same_however_it_is_split(tiny_rows, tiny_policy_dir, tmp_path):
    losses = []
    for batch_size, accumulate in ((8, 1), (2, 4)):
        weighting = ESLM(0.5, risk="entropy", scope="step")
        run = fit(
            tiny_rows,
            tiny_policy_dir,
            tmp_path / str(batch_size),
            steps=3,
            weighting=weighting,
            batch_size=batch_size,
            accumulate=accumulate,
        )
        losses.append(run.losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
