"""What training cost, by records that are known."""

import json
from pathlib import Path
from typing import Any

import pytest

from remit_lit.jobs.job import Job
from remit_lit.tables.contents import Missing
from remit_lit.tables.costs import cost_of

COST = {
    "tokens": 100,
    "policy_flops": 30.0,
    "reference_flops": 10.0,
    "scoring_flops": 0.0,
    "first_run_flops": 44.0,
    "further_run_flops": 30.0,
    "seconds": 7.0,
}


def job(root: Path, speeds: list[str] | None = None, **changes: Any) -> Job:
    """A finished run with this record; of each logged step its tokens a second, empty where none was logged."""
    made = Job("remit-0", root, "fit", fields={"speeds": str(speeds), **changes})
    made.result.mkdir(parents=True)
    (made.result / "run.json").write_text(json.dumps({"cost": {**COST, **changes}}))
    if speeds is not None:
        (made.result / "metrics.csv").write_text(
            "\n".join(["step,tokens_per_second", *(f"0,{s}" for s in speeds)]) + "\n"
        )
    return made


def test_scores_cost_the_first_run_and_no_further_one(tmp_path: Path) -> None:
    run = job(tmp_path)
    assert cost_of(run, "flops", None) == 40
    assert cost_of(run, "first_run_flops", None) == 44
    assert cost_of(run, "further_run_flops", None) == 30
    assert (cost_of(run, "tokens", None), cost_of(run, "seconds", None)) == (100, 7)


def test_throughput_lost_is_of_the_baselines_median(tmp_path: Path) -> None:
    slow, fast = job(tmp_path, ["", "50", "57", "900"]), job(tmp_path, ["1", "100", "", "120"])
    assert cost_of(slow, "throughput_lost", fast) == pytest.approx(0.43)
    assert cost_of(fast, "throughput_lost", fast) == 0


@pytest.mark.parametrize("speeds", [None, [], ["", ""]])
def test_a_run_that_logged_no_throughput_says_so(speeds: list[str] | None, tmp_path: Path) -> None:
    with pytest.raises(Missing, match="not recorded: remit-0"):
        cost_of(job(tmp_path, speeds), "throughput_lost", job(tmp_path, ["1"]))


def test_what_an_earlier_version_did_not_record_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="earlier version"):
        cost_of(job(tmp_path, first_run_flops=None), "first_run_flops", None)
