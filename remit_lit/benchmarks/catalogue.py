"""The tasks of a list of names, resolved before a model or any data is loaded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from lm_eval.api.task import Task
from lm_eval.config.group import GroupConfig
from lm_eval.tasks import TaskManager

from remit_lit.benchmarks.listing import TASKS
from remit_lit.errors import ConfigError, did_you_mean

LAB = "lab"
_GROUP_FIELDS = frozenset(field.name for field in fields(GroupConfig))


@dataclass(frozen=True)
class Leaf:
    """One task of the harness.

    Attributes:
        name: of the task.
        changes: fields that differ from its YAML file, e.g. num_fewshot.
        is_ours: whether it is a task of this package, which needs no hub.
        runs_code: whether it runs what the model wrote.
    """

    name: str
    changes: Mapping[str, Any]
    is_ours: bool
    runs_code: bool


@dataclass(frozen=True)
class Unit:
    """What becomes one result: a task, or a group whose items are pooled.

    Attributes:
        name: of the task or group.
        leaves: its tasks; none for the lab and for a file of one's own text, which the harness does not know.
    """

    name: str
    leaves: tuple[Leaf, ...] = ()


class Catalogue:
    """The tasks of this package and of lm-evaluation-harness.

    Args:
        offline_folder: see :func:`remit_lit.benchmarks.offline.offline_folder`.
    """

    def __init__(self, offline_folder: Path) -> None:
        self._metadata: dict[str, Any] = {"folder": str(offline_folder)}
        self._ours = TaskManager(include_path=str(TASKS), include_defaults=False, metadata=self._metadata)

    @cached_property
    def _all(self) -> TaskManager:
        # Reads more than ten thousand files, which takes some ten seconds: only for those who ask for more than ours.
        return TaskManager(include_path=str(TASKS), metadata=self._metadata)

    def resolve(self, names: Sequence[str]) -> list[Unit]:
        """The results that ``names`` stand for, each once, in order.

        A group that says how its tasks are averaged (BBH, MMLU-Pro) is one result over all their items; any other
        group or tag stands for its members.

        Raises:
            ConfigError: there are no names, a name is unknown, a file is not there, one name stands for two
                things, or a task would run code outside the sandbox.
        """
        if not names:
            raise ConfigError(f"tasks: got none; give for example [{LAB}] or [remit_offline_likelihood]")
        units: dict[str, Unit] = {}
        for name in names:
            if is_own_text(name) and not Path(name).is_file():
                raise ConfigError(
                    f"tasks: there is no file {name!r}; give a task's name, or a .jsonl file of documents"
                )
            needs_no_harness = name == LAB or is_own_text(name)
            found = [Unit(name)] if needs_no_harness else self._units(name, self._entry(name).cfg, {})
            for unit in found:
                if units.setdefault(unit.name, unit) != unit:
                    raise ConfigError(
                        f"tasks: {unit.name} is named twice with different settings, e.g. by itself and in a group "
                        "with another number of examples; name it once"
                    )
        for unit in units.values():
            for leaf in unit.leaves:
                if leaf.runs_code and not leaf.is_ours:
                    raise ConfigError(
                        f"tasks: {leaf.name} would run code that the model wrote in this process; give "
                        "offline_humaneval or offline_mbpp, which run it in a sandbox"
                    )
        return list(units.values())

    def load(self, leaf: Leaf) -> Task:
        """The task with its data. What it raises where its data or a package is missing is the task's own."""
        manager = self._ours if leaf.is_ours else self._all
        # The harness has no other public way to load a task with changes than as the only member of a group.
        loaded = manager.load({"group": "one", "task": [{"task": leaf.name, **leaf.changes}]})
        task: Task = loaded["tasks"][leaf.name]
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        return task

    def _entry(self, name: str) -> Any:
        entry = self._ours.task_index.get(name) or self._all.task_index.get(name)
        if entry is None:
            near = did_you_mean(name, [LAB, *self._all.all_tasks], at_most=5)
            raise ConfigError(f"tasks: no task {name!r}; {near}`lm_eval ls tasks` lists those of the harness")
        return entry

    def _units(self, name: str, cfg: Mapping[str, Any] | None, changes: Mapping[str, Any]) -> Iterator[Unit]:
        members = list(self._members(name, cfg, changes))
        if not members or (cfg or {}).get("aggregate_metric_list"):
            yield Unit(name, tuple(self._leaves(name, cfg, changes)))
        else:
            for member in members:
                yield from self._units(*member)

    def _leaves(self, name: str, cfg: Mapping[str, Any] | None, changes: Mapping[str, Any]) -> Iterator[Leaf]:
        members = list(self._members(name, cfg, changes))
        if not members:
            is_ours = name in self._ours.task_index
            yield Leaf(name, changes, is_ours, bool((cfg or {}).get("unsafe_code")))
        for member in members:
            yield from self._leaves(*member)

    def _members(
        self, name: str, cfg: Mapping[str, Any] | None, changes: Mapping[str, Any]
    ) -> Iterator[tuple[str, Mapping[str, Any] | None, Mapping[str, Any]]]:
        """Name, config and changes of each member of a group or tag; none for a task."""
        if cfg is None:
            for member in sorted(self._entry(name).tags):
                yield member, self._entry(member).cfg, changes
        elif isinstance(cfg.get("task"), list):
            shared = {field: value for field, value in cfg.items() if field not in _GROUP_FIELDS}
            for entry in cfg["task"]:
                member = {"task": entry} if isinstance(entry, str) else entry
                inner = member.get("group") or member["task"]
                is_inline = isinstance(member.get("task"), list)
                own = {} if is_inline else {k: v for k, v in member.items() if k not in ("group", "task")}
                # Outer groups win over inner ones, as in the harness; a member wins over its group.
                yield inner, member if is_inline else self._entry(inner).cfg, {**shared, **changes, **own}


def is_own_text(task: str) -> bool:
    """Whether the name of a task is that of a file of documents."""
    return task.endswith(".jsonl")


@cache
def catalogue(offline_folder: Path) -> Catalogue:
    """The catalogue of a process: what it has read is kept."""
    return Catalogue(offline_folder)
