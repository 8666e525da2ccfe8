"""The table of faults and promises, RESULTS.md: ``python -m pytest -m fault`` writes the rows of the tests it ran."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.tables import write_rows

_RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = """# Faults

`python -m pytest -m fault` writes this table: of every fault that the tests bring about, what is promised and whether
it was kept, with real processes and real files on one machine's CPU. A run of some of the tests writes their rows anew;
the others keep the date and revision of their last run.

| fault | promise | kept | date | revision |
|---|---|---|---|---|
"""
_OUTCOMES: dict[tuple[str, str], str] = {}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(what, promise): a fault, and what is promised when it happens")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    fault = item.get_closest_marker("fault")
    if fault is not None and not report.skipped and (report.when == "call" or report.failed):
        what, promise = fault.args
        case = item.callspec.id if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ""
        kept = "yes" if report.passed else "NO"
        _OUTCOMES[what + (f" ({_cell(case)})" if case else ""), promise] = kept
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Merge the rows where faults were asked for: other runs are too many for a file under version control."""
    if _OUTCOMES and session.config.option.markexpr.startswith("fault"):
        write_rows(_RESULTS, HEAD, {key: [kept] for key, kept in _OUTCOMES.items()})


def _cell(case: str) -> str:
    """A parameter's id as text of a Markdown table's cell."""
    return f"`{case}`".replace("|", r"\|") if set(case) & set("|_*<\\[") else case
