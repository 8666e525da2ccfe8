"""The benchmarks' page of results."""

from pathlib import Path

from tests.benchmarks.measure import Figure
from tests.benchmarks.report import PARTS, write_results


def test_a_run_of_one_part_leaves_the_figures_of_the_others(tmp_path: Path) -> None:
    results = tmp_path / "RESULTS.md"
    write_results("loss", [Figure("a / b, time", 0.5, 0.4, 0.6, "<= 0.45", "1 against 2 s")], 3, tmp_path)
    write_results("data", [Figure("c / d, tokens/s", 2.0, 1.9, 2.1, None, "")], 1, tmp_path)
    page = results.read_text()
    assert "| a / b, time | 0.50 | 0.40 to 0.60 | <= 0.45 | MISSED | 1 against 2 s |" in page
    assert "| c / d, tokens/s | 2.00 | 1.90 to 2.10 |  | reported |  |" in page
    assert page.count("Not run.") == len(PARTS) - 2
    write_results("loss", [Figure("a / b, time", 0.4, 0.4, 0.4, "<= 0.45", "")], 2, tmp_path)
    again = results.read_text()
    assert "| 0.50 |" not in again and "| 0.40 | 0.40 to 0.40 | <= 0.45 | yes |" in again
    assert again[again.index("## `data`") :] == page[page.index("## `data`") :]
