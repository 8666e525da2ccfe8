"""Every verb keeps its promise wherever the power is cut."""

from pathlib import Path

import pytest

from tests.faults.crash.cuts import summary, try_verb
from tests.faults.crash.forks import lack_of_recorder
from tests.faults.crash.promises import PROMISES
from tests.faults.crash.results import write_results


@pytest.mark.slow
@pytest.mark.skipif(lack_of_recorder() is not None, reason=str(lack_of_recorder()))
@pytest.mark.parametrize("verb", PROMISES)
def test_a_power_cut_breaks_no_promise(verb: str, tmp_path: Path) -> None:
    found = try_verb(verb, tmp_path, every=10)
    write_results(verb, found)
    assert all(findings.cuts for findings in found.values())
    assert [line for findings in found.values() for line in summary(findings.broken)] == []
