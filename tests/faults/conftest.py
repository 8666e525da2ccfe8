"""The table of faults and promises, RESULTS.md: a run writes the rows that it tried and leaves the others alone."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.tables import write_rows

_RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = """# Faults

`python -m pytest tests/faults` writes this table, with real processes on one machine's CPU. A run of some of the tests
writes their rows anew; the others keep the date and revision of their last run.

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
    if fault is not None and (report.when == "call" or report.failed):
        case = item.callspec.id if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ""
        kept = "yes" if report.passed else "NO"
        _OUTCOMES[fault.args[0] + (f" ({case})" if case else ""), fault.args[1]] = kept
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Merge the rows, except after the quick tests, which run too often for a file under version control."""
    if not _OUTCOMES or "not slow" in session.config.option.markexpr:
        return
    write_rows(_RESULTS, HEAD, {key: [kept] for key, kept in _OUTCOMES.items()})
