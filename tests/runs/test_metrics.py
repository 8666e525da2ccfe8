"""What a run logged, read back."""

from pathlib import Path

import pytest

from remit_lit.errors import DataError
from remit_lit.runs.metrics import read_all_metrics, read_metrics


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
