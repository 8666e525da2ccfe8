"""Which frozen models a run needs, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from remit_lit.errors import ConfigError
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import CachedReference, InitialPolicy, LiveReference
from remit_lit.training.distillation import Distillation
from remit_lit.training.frozen import FrozenModels
from remit_lit.weighting import MiniPLM, NextTokenPrediction, ReMiT, TokenWeighting


@pytest.fixture
def reference(tiny_reference_dir: Path) -> LiveReference:
    return LiveReference(ModelSpec(str(tiny_reference_dir)))


@pytest.mark.parametrize(
    ("weighting", "distillation", "in_training", "before"),
    [
        (NextTokenPrediction(), None, [], []),
        (NextTokenPrediction(), Distillation(), ["reference"], ["reference"]),
        (ReMiT(), None, ["reference", "base"], ["reference", "base"]),
        (ReMiT(), Distillation(), ["reference", "base"], ["reference", "base"]),
        (MiniPLM(), None, [], ["reference", "base"]),
        (MiniPLM(), Distillation(), ["reference"], ["reference", "base"]),
        (NextTokenPrediction(), Distillation(column="top"), [], []),
        (ReMiT(), Distillation(column="top"), ["reference", "base"], ["reference", "base"]),
        (MiniPLM(), Distillation(column="top"), [], ["reference", "base"]),
    ],
)
def test_only_what_is_read_is_needed(
    weighting: TokenWeighting,
    distillation: Distillation | None,
    in_training: list[str],
    before: list[str],
    reference: LiveReference,
) -> None:
    frozen = FrozenModels(weighting, reference, InitialPolicy(), distillation)
    for chooses_rows, names in ((False, in_training), (True, before)):
        assert frozen.needed(chooses_rows=chooses_rows) == [getattr(frozen, name) for name in names]


def test_a_teacher_and_a_weigher_are_two_forward_passes(reference: LiveReference) -> None:
    frozen = FrozenModels(ReMiT(), reference, distillation=Distillation())
    assert frozen.weighing == frozen.teaching == [reference]


@pytest.mark.parametrize("weighting", [ReMiT(), MiniPLM()], ids=["weighs", "chooses rows"])
def test_a_strategy_without_its_reference_is_refused(weighting: TokenWeighting) -> None:
    with pytest.raises(ConfigError, match=rf"model\.reference: {type(weighting).__name__} compares"):
        FrozenModels(weighting)


def test_distillation_takes_a_whole_live_reference(tiny_reference_dir: Path) -> None:
    sharded = LiveReference(ModelSpec(str(tiny_reference_dir)), sharded=True)
    cases: list[tuple[Any, str]] = [
        (None, "got none, give a LiveReference"),
        (CachedReference("nll_rl"), "got CachedReference, give a LiveReference"),
        (sharded, r"reference\.sharded: got true, but distillation needs a whole reference"),
    ]
    for reference, message in cases:
        with pytest.raises(ConfigError, match=message):
            FrozenModels(NextTokenPrediction(), reference, distillation=Distillation())
