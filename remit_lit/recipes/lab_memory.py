"""What a training step of each method of a lab table holds in memory: computed as ``estimate`` does, not measured."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from remit_lit.cli.unrun import planned_run
from remit_lit.errors import ConfigError
from remit_lit.estimate.layouts import LAYOUTS, Memory
from remit_lit.estimate.step import INITIAL, REFERENCE

# Of the shapes of every model that the lab trains.
_MODEL = "lab/reference"
_MB = 1e6


def report(table: Path) -> str:
    """A Markdown table with a line for each method, in megabytes of one process without activation checkpointing.

    Args:
        table: its YAML file, with an ``experiment`` or a file that it ``extends``.

    Raises:
        ConfigError: no such file, or it has no methods.
    """
    try:
        settings = yaml.safe_load(table.read_text())
    except FileNotFoundError:
        raise ConfigError(f"memory: no file {table}; give a table of the lab") from None
    if not isinstance(settings, dict) or "methods" not in settings:
        raise ConfigError(f"memory: {table} has no methods; give a table of the lab")
    inherited = yaml.safe_load(Path(settings["extends"]).read_text()) if "extends" in settings else {}
    experiment = settings.get("experiment", inherited.get("experiment", []))
    memory = {method["title"]: _memory(experiment, method) for method in settings["methods"].values()}
    first = next(iter(memory.values())).total
    lines = [
        "| method | peak of a step, MB | beside the first, MB | frozen models in it, MB | while rows are chosen, MB |",
        "|---|---:|---:|---:|---:|",
    ]
    for title, each in memory.items():
        frozen = each.gpu.get(REFERENCE, 0) + each.gpu.get(INITIAL, 0)
        rest = f"{_mb(frozen)} | {_mb(each.choosing)}"
        lines.append(f"| {title} | {sum(each.gpu.values()) / _MB:.2f} | {(each.total - first) / _MB:+.2f} | {rest} |")
    return "\n".join(lines)


def _memory(experiment: list[str], method: Mapping[str, Any]) -> Memory:
    files = [f"--config={name}" for name in [*experiment, *method.get("configs", [])]]
    # None of the rows that other runs made here: theirs may be of other settings.
    run = planned_run([*files, *_arguments(method.get("fields", {})), "--data.rows=.cache/lab/none"])
    return run.memory(LAYOUTS[0], 1, checkpointing=False)


def _arguments(fields: Mapping[str, Any]) -> Iterator[str]:
    """The fields of a method; for what a step of the table has yet to make stands a model of the lab, or nothing."""
    for name, value in fields.items():
        is_to_be_made = "{" in str(value)
        if not is_to_be_made or name.endswith("model.path"):
            yield f"--{name}={_MODEL if is_to_be_made else 'null' if value is None else value}"


def _mb(size: float) -> str:
    return f"{size / _MB:.2f}" if size else "-"
