"""A partial run keeps the rows of a whole one."""

from tests.faults.matrix import HEAD
from tests.faults.tables import merged


def test_a_partial_run_writes_its_rows_and_keeps_the_others() -> None:
    whole = {
        ("a rank dies", "all end"): ["yes"],
        ("kill -9", "the same run"): ["yes"],
        ("no room", "a message"): ["NO"],
    }
    table = merged(HEAD, "", whole, "2026-01-01", "aaa")
    again = merged(HEAD, table, {("no room", "a message"): ["yes"]}, "2026-02-02", "bbb")
    assert again.splitlines()[-3:] == [
        "| a rank dies | all end | yes | 2026-01-01 | aaa |",
        "| kill -9 | the same run | yes | 2026-01-01 | aaa |",
        "| no room | a message | yes | 2026-02-02 | bbb |",
    ]
    assert merged(HEAD, again, {}, "2026-03-03", "ccc") == again
