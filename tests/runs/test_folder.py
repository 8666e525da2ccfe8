"""Which process of a run writes its folder: the one that Lightning means, also before Lightning is imported."""

import warnings

import pytest
from lightning.fabric.utilities import rank_zero

from remit_lit.runs.folder import global_rank, warn

VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, 0),
        ({"RANK": "3", "LOCAL_RANK": "1"}, 3),
        ({"LOCAL_RANK": "1", "SLURM_PROCID": "2"}, 1),
        ({"SLURM_PROCID": "2"}, 2),
    ],
)
def test_the_rank_is_that_of_the_launcher(
    environment: dict[str, str], rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delattr(rank_zero.rank_zero_only, "rank")  # as where Lightning was not imported
    assert global_rank() == rank == (rank_zero._get_rank() or 0)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        warn("said once")
    assert len(heard) == (rank == 0)


def test_what_a_trainer_has_set_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setattr(rank_zero.rank_zero_only, "rank", 2)
    assert global_rank() == 2
