"""RESULTS.md: how the power cuts of each verb went; a run of some verbs leaves the rows of the others alone."""

from collections.abc import Mapping
from pathlib import Path

from tests.faults.crash.cuts import Findings
from tests.faults.crash.disk import Model
from tests.faults.tables import write_rows

_RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = """# Power cuts

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
    write_rows(_RESULTS, HEAD, rows)
