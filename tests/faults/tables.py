"""Tables of faults that runs write: a run of some of the tests leaves the rows of the others alone."""

import datetime
import fcntl
import subprocess
from collections.abc import Mapping
from pathlib import Path


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True).stdout.strip()


def _revision() -> str:
    """Of the code; the tables themselves are no part of it."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude,glob)**/RESULTS.md")
    return (_git("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if changed else "")


REVISION = _revision()

Rows = Mapping[tuple[str, str], list[str]]
"""The values of each row by its first two columns."""


def write_rows(path: Path, head: str, rows: Rows) -> None:
    """Merge rows of today and of this revision into the table at ``path``."""
    with open(path, "a+") as stream:  # the processes of pytest-xdist each bring their rows
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        table = merged(head, stream.read(), rows, str(datetime.date.today()), REVISION)
        stream.truncate(0)
        stream.write(table)


def merged(head: str, table: str, rows: Rows, date: str, revision: str) -> str:
    """The table with ``rows`` in the place of their earlier ones, in the order of their first two columns."""
    lines = [line for line in table.splitlines() if line.startswith("| ") and line not in head.splitlines()]
    kept = {(first, second): rest for first, second, *rest in (line.strip("| ").split(" | ") for line in lines)}
    kept |= {key: [*values, date, revision] for key, values in rows.items()}
    return head + "".join(f"| {' | '.join([*key, *rest])} |\n" for key, rest in sorted(kept.items()))
