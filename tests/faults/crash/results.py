"""RESULTS.md: how the power cuts of each verb went; a run of some verbs leaves the rows of the others alone."""

import datetime
import fcntl
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.faults.crash.cuts import Findings
from tests.faults.crash.disk import Model

_RESULTS = Path(__file__).with_name("RESULTS.md")
_HEAD = """# Power cuts

`python -m tests.faults.crash` writes this table. Each verb runs once under strace, and its history is cut before every
operation that may change what is on the disk, and at its end. After a cut the directory holds what a machine may find:

- content lost: all names, and of each file what was synced (a rename before an fsync leaves an empty file);
- names lost: of directories too only what was synced;
- out of order: as content lost, but the file written last is there in whole, before all that were written earlier.

In each different state the kit's own reading must find nothing half that looks whole, and nothing missing that was said
to be there; from some states the verb is run again, to the same bytes as without a cut.

| verb | what was lost | operations | cuts | states | run again | kept | broken | date | revision |
|---|---|---|---|---|---|---|---|---|---|
"""


def write_results(verb: str, found: Mapping[Model, Findings]) -> None:
    """Write the rows of a verb anew."""
    rows: dict[tuple[str, str], list[str]] = {
        (verb, model): [
            str(n) for n in (f.operations, f.cuts, len(f.states), f.resumed, f.cuts - len(f.broken), len(f.broken))
        ]
        for model, f in found.items()
    }
    with open(_RESULTS, "a+") as stream:  # the processes of pytest-xdist each bring their rows
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        table = merged(stream.read(), rows, str(datetime.date.today()), _revision())
        stream.truncate(0)
        stream.write(table)


def merged(table: str, rows: Mapping[tuple[str, str], list[str]], date: str, revision: str) -> str:
    """The table with ``rows`` in the place of their earlier ones, in the order of verbs."""
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    kept = {(verb, model): rest for verb, model, *rest in lines if verb != "verb"}
    kept |= {key: [*values, date, revision] for key, values in rows.items()}
    return _HEAD + "".join(f"| {' | '.join([*key, *rest])} |\n" for key, rest in sorted(kept.items()))


def _revision() -> str:
    described = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(described, cwd=_RESULTS.parent, capture_output=True, text=True).stdout.strip() or "unknown"
