"""The tasks of this package, listed from their files: nothing of lm-evaluation-harness is imported for it."""

import re
from pathlib import Path

from remit_lit.configs import summary_of

TASKS = Path(__file__).parent / "tasks"
_NAMED = re.compile(r"^(task|group): *(\S+)", re.MULTILINE)
_MEMBER = re.compile(r"^  - ", re.MULTILINE)
_INCLUDED = re.compile(r"^include: *(\S+)", re.MULTILINE)


def tasks() -> str:
    """List the tasks and groups that ``evaluate --tasks`` takes: name, what it asks, and the file that says so.

    Returns:
        What is printed.
    """
    found = {name: path for path in sorted(TASKS.rglob("*.yaml")) for name in _names(path)}
    lines = [f"  {name:<42} {_said_of(path)} ({path.relative_to(TASKS)})" for name, path in sorted(found.items())]
    return "\n".join(
        [
            str(TASKS),
            *lines,
            f"  {'lab':<42} The synthetic problems of the embedded lab, with exact answers (remit_lit/lab/task.py)",
            f"  {'FILE.jsonl':<42} Bits per byte of documents of your own (docs/guides/evaluation.md)",
            "and every task of lm-evaluation-harness by its own name: `lm_eval ls tasks`",
        ]
    )


def _names(path: Path) -> list[str]:
    found = dict(_NAMED.findall(path.read_text()))
    return [found["group"]] if "group" in found else [found["task"]] if "task" in found else []


def _said_of(path: Path) -> str:
    """The first sentence of a file's opening comment, or else of the file that it includes."""
    text, said = path.read_text(), summary_of(path)
    included = _INCLUDED.search(text)
    if said or included is None:
        return said or f"A group of {len(_MEMBER.findall(text))}"
    return _said_of(path.parent / included[1])
