"""The table of faults and promises, RESULTS.md: a run writes the rows that it tried and leaves the others alone."""

import datetime
import fcntl
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

_RESULTS = Path(__file__).with_name("RESULTS.md")
_HEAD = """# Faults

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
    with open(_RESULTS, "a+") as stream:  # the processes of pytest-xdist each bring their rows
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        rows = merged(stream.read(), _OUTCOMES, str(datetime.date.today()), _revision())
        stream.truncate(0)
        stream.write(rows)


def merged(table: str, outcomes: dict[tuple[str, str], str], date: str, revision: str) -> str:
    """The table with the rows of ``outcomes`` in the place of their earlier ones, in the order of faults."""
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    rows = {(fault, promise): rest for fault, promise, *rest in lines if fault != "fault"}
    rows |= {key: [kept, date, revision] for key, kept in outcomes.items()}
    return _HEAD + "".join(f"| {' | '.join([*key, *rest])} |\n" for key, rest in sorted(rows.items()))


def _revision() -> str:
    described = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(described, cwd=_RESULTS.parent, capture_output=True, text=True).stdout.strip() or "unknown"
