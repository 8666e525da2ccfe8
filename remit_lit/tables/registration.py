"""The primary comparison of a table, and whether it was fixed before its runs were there."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from remit_lit.jobs.report import RECORD
from remit_lit.runs.provenance import now
from remit_lit.tables.plan import Plan, Run
from remit_lit.tables.settings import TableSettings


def register(settings: TableSettings, plan: Plan, output: Path) -> dict[str, Any]:
    """What the table's record says of its primary comparison; of one that stands there already, what it says.

    To be called before anything is run: it counts the seeds whose outcome could be known by then.

    Returns:
        ``primary`` and its hash ``key``, when it was registered (``at``), of how many seeds (``seeds``) the outcome was
        there by then (``seeds_before``), and the registration that it ``replaced`` after outcomes were there.
    """
    primary = None if settings.primary is None else asdict(settings.primary)
    key = hashlib.sha256(json.dumps(primary, sort_keys=True).encode()).hexdigest()[:12]
    earlier = _registered(output)
    if earlier.get("key") == key:
        return dict(earlier)
    before = sum(_is_known(settings, plan, seed) for seed in settings.seeds)
    replaced = earlier if earlier.get("primary") and before else earlier.get("replaced")
    counted = {"seeds": len(settings.seeds), "seeds_before": before}
    return {"primary": primary, "key": key, "at": now(), **counted, "replaced": replaced}


def notes_on(registration: Mapping[str, Any], settings: TableSettings) -> list[str]:
    """What a reader of the table must know of it; nothing where the table compares nothing."""
    if settings.baseline is None:
        return []
    replaced = registration["replaced"]
    was = "" if replaced is None else f" It took the place of another one, {_words(replaced, settings)}, after that."
    if registration["primary"] is None:
        return [f"No primary comparison is registered, so all are secondary.{was}"]
    said = f"Primary comparison: {_words(registration, settings)}, registered {registration['at']}"
    before = registration["seeds_before"]
    when = (
        "before any of its seeds was run" if not before else f"AFTER {before} of {registration['seeds']} seeds were run"
    )
    return [f"{said}, {when} (key {registration['key']}). All others are secondary.{was}"]


def _words(registration: Mapping[str, Any], settings: TableSettings) -> str:
    primary = registration["primary"]
    titles = [settings.methods[name].title if name in settings.methods else name for name in _compared(primary)]
    return f"{titles[0]} against {titles[1]} in {primary['row']}"


def _compared(primary: Mapping[str, Any]) -> tuple[str, str]:
    return primary["method"], primary["control"]


def _is_known(settings: TableSettings, plan: Plan, seed: int) -> bool:
    """Whether both methods of the primary comparison have been measured, or without one, any but the baseline."""
    primary = settings.primary
    others = [primary.method] if primary else [name for name in settings.methods if name != settings.baseline]
    baseline = primary.control if primary else settings.baseline
    return (baseline is None or _is_done(plan[baseline, seed])) and any(_is_done(plan[name, seed]) for name in others)


def _is_done(run: Run) -> bool:
    jobs = list(run.evaluations.values()) or ([run.fit] if run.fit else [])
    return any(job.state == "done" for job in jobs)


def _registered(output: Path) -> Mapping[str, Any]:
    """The registration in a table's record; nothing where there is none, or none that can be read."""
    try:
        found = json.loads((output / RECORD).read_text())["registration"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
