"""Whether a table's primary comparison was fixed before its runs."""

import json
from pathlib import Path
from typing import Any

from remit_lit.tables.plan import make_plan
from remit_lit.tables.registration import notes_on, register
from remit_lit.tables.settings import Method, Primary, RowSettings, TableSettings

PRIMARY = Primary("accuracy", "remit", "ntp", smallest_effect=3.0)


def settings(primary: Primary | None, **changes: Any) -> TableSettings:
    methods = {name: Method(name.upper(), model=f"org/{name}") for name in ("ntp", "rho1", "remit")}
    rows = {name: RowSettings(name, task="lab", metric=name) for name in ("accuracy", "nll")}
    given = {"title": "t", "methods": methods, "rows": rows, "output": "out", "seeds": [0, 1], "baseline": "ntp"}
    fields = {"evaluate": {"tasks": ["lab"], "seed": "{seed}"}}
    return TableSettings(**{**given, **fields, "primary": primary, **changes})


def table(root: Path, primary: Primary | None, done: tuple[str, ...] = (), **changes: Any) -> str:
    """What a table says of its registration, whose record is written; ``done`` were evaluated before, with seed 0."""
    made = settings(primary, **changes)
    plan = make_plan(made, root / "cells")
    for name in done:
        job = plan[name, 0].evaluations["", "evaluate"]
        job.begin()
        job.result.mkdir(exist_ok=True)
        job.output.write_text("{}")
        job.end(None, seconds=1.0, cpu_seconds=1.0)
    registration = register(made, plan, root)
    (root / "record.json").write_text(json.dumps({"registration": registration}))
    return " ".join(notes_on(registration, made))


def test_a_comparison_that_was_there_first_is_registered_and_stays_so(tmp_path: Path) -> None:
    said = table(tmp_path, PRIMARY)
    assert said.startswith("Primary comparison: REMIT against NTP in accuracy, registered 2")
    assert "before any of its seeds was run (key " in said
    assert table(tmp_path, PRIMARY, done=("ntp", "remit")) == said


def test_one_that_comes_after_its_runs_says_so(tmp_path: Path) -> None:
    said = table(tmp_path, PRIMARY, done=("ntp", "remit"))
    assert "AFTER 1 of 2 seeds were run" in said


def test_the_runs_of_others_do_not_count(tmp_path: Path) -> None:
    assert "before any of its seeds" in table(tmp_path, PRIMARY, done=("ntp", "rho1"))


def test_one_that_is_changed_after_its_runs_says_what_it_was(tmp_path: Path) -> None:
    table(tmp_path, PRIMARY)
    changed = Primary("nll", "remit", "ntp")
    said = table(tmp_path, changed, done=("ntp", "remit"))
    assert "REMIT against NTP in nll" in said and "AFTER 1 of 2 seeds" in said
    assert "took the place of another one, REMIT against NTP in accuracy" in said
    assert table(tmp_path, changed) == said


def test_one_that_is_changed_before_any_run_is_a_new_one(tmp_path: Path) -> None:
    table(tmp_path, PRIMARY)
    said = table(tmp_path, Primary("nll", "remit", "ntp"))
    assert "before any of its seeds" in said and "took the place" not in said


def test_one_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    assert table(tmp_path, None) == "No primary comparison is registered, so all are secondary."
    other = tmp_path / "other"
    other.mkdir()
    table(other, PRIMARY, done=("ntp", "remit"))
    said = table(other, None)
    assert "No primary comparison is registered" in said and "REMIT against NTP in accuracy" in said


def test_where_nothing_is_compared_nothing_is_said(tmp_path: Path) -> None:
    assert table(tmp_path, None, baseline=None) == ""


def test_a_record_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text("[1, 2")
    assert "before any of its seeds" in table(tmp_path, PRIMARY)
