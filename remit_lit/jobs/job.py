"""A job: one command of the kit, and the folder its result is kept in."""

import hashlib
import importlib.metadata
import json
import shlex
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from remit_lit import __version__
from remit_lit.files import make_directory, write_whole
from remit_lit.jobs.fields import fill, leaves
from remit_lit.jobs.fingerprint import contents_of
from remit_lit.jobs.result import Notes, damage_of, note
from remit_lit.verbs import VERBS

State = Literal["done", "failed", "damaged", "interrupted", "missing"]


_RECIPE, _DONE, _FAILED, LOG = "job.json", "done.json", "failed.json", "log.txt"


@dataclass(frozen=True, eq=False)
class Job:
    """A command whose result depends on nothing but its verb, configs, fields, inputs and versions.

    Attributes:
        name: for people.
        root: directory of all jobs.
        verb: of ``python -m remit_lit``.
        configs: YAML files. Their contents count, not their names or comments.
        fields: values by dotted name. In a string, ``{NAME}`` is the result's folder of the input of that name; other
            braces are text.
        inputs: jobs that must be done before, by the names that fields call them; ``{NAME.rows}`` is where the rows of
            such a run lie.
        places: values for ``{NAME}`` that do not count, such as where rows lie.
        kind: what takes about as long as this one; the name without the seed.
    """

    name: str
    root: Path
    verb: str
    configs: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, "Job"] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """All that decides the result, as JSON values.

        A later config's value replaces an earlier one's. Files, models, rows and code that a field names count by their
        contents; where the result goes does not.
        """
        # What an input is called does not count.
        keys = {name: f"{{{job.key}}}" for name, job in self.inputs.items()}
        keys |= {f"{name}.rows": f"{{{job.key}.rows}}" for name, job in self.inputs.items()}
        verb = VERBS[self.verb]
        fields = fill(leaves(self.configs, self.fields, verb), keys)
        fields.pop(verb.output, None)
        # Rows that are made where they are missing count by how they are made.
        made = {"data.rows"} if any(name.startswith("data.prepare.") for name in fields) else set()
        return {
            "verb": self.verb,
            "fields": dict(sorted(fields.items())),
            "contents": contents_of({name: value for name, value in fields.items() if name not in made}),
            "inputs": sorted(job.key for job in self.inputs.values()),
            "versions": {"remit_lit": __version__, **{name: _version(name) for name in verb.packages}},
        }

    @cached_property
    def key(self) -> str:
        """Hash of the recipe, 12 hexadecimal digits."""
        text = json.dumps(self.recipe, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def folder(self) -> Path:
        """Recipe, log, outcome, and the result's folder."""
        return self.root / f"{self.verb}-{self.key}"

    @property
    def result(self) -> Path:
        """What the command wrote."""
        return self.folder / "result"

    @property
    def output(self) -> Path:
        """The result: a file in its folder, or the folder."""
        return self.result / VERBS[self.verb].file

    @property
    def log(self) -> Path:
        """What the command printed."""
        return self.folder / LOG

    @property
    def arguments(self) -> list[str]:
        """The command line after ``python -m remit_lit``."""
        places = {**self.places, **{name: str(job.result) for name, job in self.inputs.items()}}
        places |= {f"{name}.rows": job.places["rows"] for name, job in self.inputs.items() if "rows" in job.places}
        verb = VERBS[self.verb]
        fields = {**self.fields, verb.output: str(self.output), **verb.as_job, **(verb.resume or {})}
        given = [f"--{name}={_as_argument(fill(value, places))}" for name, value in fields.items()]
        return [self.verb, *(f"--config={path}" for path in self.configs), *given]

    @property
    def command(self) -> str:
        """What to type to do the same by hand."""
        return shlex.join(["python", "-m", "remit_lit", *self.arguments])

    @property
    def state(self) -> State:
        """What the folder tells; done only where the result is as the command left it."""
        if self._done and self.damage is None:
            return "done"
        if self._failed:
            return "failed"
        if self._done:
            return "damaged"
        return "interrupted" if self.folder.exists() else "missing"

    @property
    def lack(self) -> str | None:
        """What the result lacks, or what of it cannot be read; None where nothing."""
        verb = VERBS[self.verb]
        if not self.result.exists():
            return f"it ended without a result: there is no {self.result}"
        for path in [self.output] if verb.file else [self.result / name for name in verb.holds]:
            try:
                json.loads(path.read_text())
            except (OSError, ValueError) as error:
                return f"it ended without a result: {path.relative_to(self.folder)} cannot be read ({error})"
        return None

    @property
    def damage(self) -> str | None:
        """What is wrong with the result of a job that ended well; None where nothing is."""
        if not self._done:
            return None
        noted = self._done.get("files")
        return self.lack if noted is None else damage_of(self.result, noted)

    @property
    def outcome(self) -> dict[str, Any]:
        """Of a job that is done or failed: ``seconds``, ``cpu_seconds``, and of a failed one ``error``."""
        return self._done if self.state == "done" else self._failed

    def begin(self) -> None:
        """Make the folder; what an interrupted command left stays only where the verb can go on from it."""
        make_directory(self.folder)
        if VERBS[self.verb].resume is None or self.damage is not None:
            shutil.rmtree(self.result, ignore_errors=True)
        self.forget()  # after that: a damaged result must not be taken for an interrupted one
        _write(self.folder / _RECIPE, {**self.recipe, "command": self.command})

    def forget_failure(self) -> None:
        """Remove the record of an earlier failure, for a command that begins later and elsewhere."""
        (self.folder / _FAILED).unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove the records of how it ended."""
        for record in (_DONE, _FAILED):
            (self.folder / record).unlink(missing_ok=True)

    def end(self, error: str | None, **facts: Any) -> None:
        """Record that the command ended, with ``error`` where it failed or left no result."""
        error = error or self.lack
        ended = {"kind": self.kind, **facts, "ended": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        if error is None:
            _write(self.folder / _DONE, {**ended, "files": self._noted()})
        else:
            _write(self.folder / _FAILED, {**ended, "error": error})

    def _noted(self) -> Notes:
        return note(self.result)

    @property
    def _done(self) -> dict[str, Any]:
        return read_outcome(self.folder / _DONE, "seconds")

    @property
    def _failed(self) -> dict[str, Any]:
        return read_outcome(self.folder / _FAILED, "error")


def read_outcome(path: Path, needed: str) -> dict[str, Any]:
    """How a command ended; empty where that was not recorded in whole, with ``needed`` among it."""
    try:
        outcome = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return outcome if isinstance(outcome, dict) and {"kind", needed} <= outcome.keys() else {}


def with_inputs(jobs: Iterable[Job]) -> list[Job]:
    """The jobs and all that they need, each once (by key), inputs first."""
    ordered: dict[str, Job] = {}

    def visit(job: Job) -> None:
        if job.key not in ordered:
            for needed in job.inputs.values():
                visit(needed)
            ordered[job.key] = job

    for job in jobs:
        visit(job)
    return list(ordered.values())


@cache  # each reads and parses a file, of which a table's jobs would ask thousands of times
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _as_argument(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_whole(path, json.dumps(content, indent=1, default=str) + "\n")


def lineage(jobs: Iterable[Job]) -> list[dict[str, Any]]:
    """Each job with its key, what decided it, and the keys of the jobs that it needed, inputs first."""
    return [
        {
            "name": job.name,
            "key": job.key,
            "state": job.state,
            "seconds": job.outcome.get("seconds") if job.state in ("done", "failed") else None,
            "result": str(job.result),
            "command": job.command,
            "inputs": {name: needed.key for name, needed in job.inputs.items()},
            "recipe": job.recipe,
        }
        for job in with_inputs(jobs)
    ]
