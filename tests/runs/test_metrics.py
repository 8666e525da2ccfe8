"""What a run logged, read back."""

import warnings
from pathlib import Path

import pytest

from remit_lit.errors import DataError
from remit_lit.runs.metrics import read_all_metrics, read_metrics, write_tidy_metrics


def test_all_figures_are_read_over_interruptions(tmp_path: Path) -> None:
    (tmp_path / "metrics-1.csv").write_text("step,a,b\r\n1,1.0,\r\n2,2.0,7.5\r\n")
    (tmp_path / "metrics.csv").write_text("a,c,step\n20.0,,2\n,3.0,3\n")
    assert read_all_metrics(tmp_path) == {"a": [(1, 1.0), (2, 20.0)], "b": [(2, 7.5)], "c": [(3, 3.0)]}
    assert read_metrics(tmp_path, "a") == [(1, 1.0), (2, 20.0)]
    assert read_metrics(tmp_path, "d") == []


def test_a_line_that_was_cut_off_does_not_count(tmp_path: Path) -> None:
    whole = "a,step,b\n1.0,1,5.5\n2.0,2,6.5\n"
    (tmp_path / "metrics.csv").write_text(whole)
    for end in range(len(whole) - len("2.0,2,6.5\n"), len(whole)):
        (tmp_path / "metrics.csv").write_text(whole[:end])
        assert read_all_metrics(tmp_path) == {"a": [(1, 1.0)], "b": [(1, 5.5)]}


@pytest.mark.parametrize("content", ["a,step\n1.0,x\n", "a,step\nx,1\n", "a,b\n1.0,2.0\n", "step,a\n1,1.0\n,2.0\n"])
def test_a_damaged_log_is_refused_by_name(content: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(content)
    with pytest.raises(DataError, match=r"metrics\.csv is no log of a run, or is damaged"):
        read_all_metrics(tmp_path)


def test_the_tidy_form_has_a_line_for_each_value_of_all_interruptions(tmp_path: Path) -> None:
    (tmp_path / "metrics-1.csv").write_text("step,train/loss,tokens_seen\n1,0.123456789,\n2,9.0,1584000.0\n")
    (tmp_path / "metrics.csv").write_text(
        "step,train/loss,val/nll/web,val/nll,eval/gsm8k/exact,weights/mean,lab/x\n"
        "0,,1.5,1.25,,,\n2,0.00001234567,,,,1.0,\n3,nan,,,0.5,,7\n"
    )
    write_tidy_metrics(tmp_path)
    assert (tmp_path / "tidy_metrics.csv").read_text().splitlines() == [
        "step,group,source,metric,value",
        "0,val,,nll,1.25",
        "0,val,web,nll,1.5",
        "1,train,,loss,0.123457",
        "2,,,tokens_seen,1584000",
        "2,train,,loss,1.23457e-05",
        "2,weights,,mean,1",
        "3,eval,gsm8k,exact,0.5",
        "3,lab,,x,7",
        "3,train,,loss,nan",
    ]


@pytest.mark.parametrize(("content", "warns"), [("step,a\nx,1.0\n", True), ("step,a\n", False), (None, False)])
def test_no_tidy_form_of_a_log_that_is_damaged_or_empty(content: str | None, warns: bool, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "metrics.csv").write_text(content)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        write_tidy_metrics(tmp_path)
    assert any("tidy_metrics.csv was not written" in str(warning.message) for warning in said) == warns
    assert not (tmp_path / "tidy_metrics.csv").exists()
