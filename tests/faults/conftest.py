"""The table of faults and promises, written to RESULTS.md by a test run that takes in all of them."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

_RESULTS = Path(__file__).with_name("RESULTS.md")
_OUTCOMES: dict[str, tuple[str, str, str]] = {}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(what, promise): a fault, and what is promised when it happens")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    fault = item.get_closest_marker("fault")
    if fault is not None and (report.when == "call" or report.failed):
        case = item.callspec.id if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ""
        kept = "yes" if report.passed else "NO"
        _OUTCOMES[item.nodeid] = (fault.args[0] + (f" ({case})" if case else ""), fault.args[1], kept)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the table only if every fault of this folder was tried."""
    here = str(Path(__file__).parent)
    expected = {item.nodeid for item in session.items if item.get_closest_marker("fault")}
    slow = any(item.get_closest_marker("slow") for item in session.items if str(item.path).startswith(here))
    if not expected or not slow or set(_OUTCOMES) != expected:
        return
    rows = [f"| {what} | {promise} | {kept} |" for what, promise, kept in sorted(_OUTCOMES.values())]
    lines = [
        "# Faults",
        "",
        "`python -m pytest tests/faults` wrote this table, with real processes on one machine's CPU.",
        "",
    ]
    _RESULTS.write_text("\n".join([*lines, "| fault | promise | kept |", "|---|---|---|", *rows, ""]))
