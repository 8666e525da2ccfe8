"""What a flywheel's YAML says, and the table of methods that so many rounds of it are."""

from dataclasses import dataclass, field
from typing import Any, Literal

from remit_lit.errors import ConfigError, not_among
from remit_lit.flywheel.numbers import Key, name_in, numbers_by_name
from remit_lit.jobs.fields import Fields, fill
from remit_lit.tables.settings import Method, RowSettings, Step, TableSettings, staged_name

_REFERENCE = "reference"


@dataclass
class Arm:
    """What goes round beside the others.

    Attributes:
        title: of its column.
        configs: laid over the experiment.
        fields: laid over the flywheel's fields.
        inputs: as of a table's step, for ``fields``; ``reference`` is the arm's RL-tuned model of the round before.
    """

    title: str
    configs: list[str] = field(default_factory=list)
    fields: Fields = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)


@dataclass
class FlywheelSettings:
    """Arms that are mid-trained from the same base and post-trained in each round.

    In a string of ``fields``, ``{round}`` is the round, ``{reference}`` the folder of the arm's RL-tuned model of the
    round before, ``{NAME}`` a hashed number, and ``{seed}`` and all other names are as in a table.

    Attributes:
        title: what stands above the table.
        experiment: YAML files that every ``fit`` begins with.
        arms: what goes round, by name.
        stages: the stages of post-training, in order; the last makes the next reference.
        rows: what is measured after mid-training and after each stage.
        first: the arm that makes the first reference, in round 0.
        judged: the arm whose RL-tuned model has to be better than its control's.
        control: the arm that it is compared with, in the same round and on the same documents.
        judge: the row, of dev problems, that says whether it is.
        goes_on_while: the rule for another round. leads: the judged arm is above its control; gains: it is, and by more
            than in the round before.
        output: directory to write the table, figure and lineage to.
        seeds: every arm goes round with each of them; more seeds make the intervals narrower.
        vary: as in a table.
        hashed: numbers for strings, such as seeds of documents, by name, with what each is of: seed, or seed and round.
            No two are the same.
        before: as in a table.
        fields: fields that every arm's ``fit`` is given, by dotted name.
        inputs: as of a table's step, for ``fields``.
        evaluate: as in a table.
        notes: lines to print below the table.
    """

    title: str
    experiment: list[str]
    arms: dict[str, Arm]
    stages: dict[str, Step]
    rows: dict[str, RowSettings]
    first: str
    judged: str
    control: str
    judge: str
    goes_on_while: Literal["leads", "gains"]
    output: str
    seeds: list[int] = field(default_factory=lambda: [0])
    vary: dict[str, list[Any]] = field(default_factory=dict)
    hashed: dict[str, list[Key]] = field(default_factory=dict)
    before: dict[str, Step] = field(default_factory=dict)
    fields: Fields = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    evaluate: Fields | None = None
    notes: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Refuse what cannot go round, before anything is run.

        Raises:
            ConfigError: naming the field, what it got and what would be right.
        """
        if not self.stages:
            raise ConfigError("stages: got none; give the stages that make a base model an RL-tuned one")
        for name in ("first", "judged", "control"):
            if getattr(self, name) not in self.arms:
                raise ConfigError(f"{name}: {not_among(getattr(self, name), self.arms)}")
        if self.control == self.judged:
            raise ConfigError(f"control: got {self.control!r}, which is judged; give another arm")
        if self.judge not in self.rows or self.rows[self.judge].progress is None:
            dev = [name for name, row in self.rows.items() if row.progress is not None]
            raise ConfigError(f"judge: got {self.judge!r}; give a row of dev problems: {', '.join(dev) or 'none'}")

    @property
    def last_stage(self) -> str:
        """The stage whose model is the next reference."""
        return list(self.stages)[-1]

    def before_round(self, arm: str, round_: int) -> str:
        """The method of the round before: what makes the reference of ``arm`` in ``round_``."""
        return method_name(self.first if round_ == 1 else arm, round_ - 1)

    def table(self, rounds: int) -> TableSettings:
        """Round 0 of the first arm and ``rounds`` of all, as the methods of one table.

        Raises:
            ConfigError: two hashed numbers are the same.
        """
        methods = {method_name(self.first, 0): self._method(self.arms[self.first], 0, None)}
        for round_ in range(1, rounds + 1):
            for name, arm in self.arms.items():
                reference = staged_name(self.before_round(name, round_), self.last_stage)
                methods[method_name(name, round_)] = self._method(arm, round_, reference)
        return TableSettings(
            title=self.title,
            methods=methods,
            rows=self.rows,
            output=self.output,
            experiment=self.experiment,
            seeds=self.seeds,
            vary={**self.vary, **numbers_by_name(self.hashed, self.seeds, rounds)},
            before=self.before,
            stages=self.stages,
            evaluate=self.evaluate,
        )

    def _method(self, arm: Arm, round_: int, reference: str | None) -> Method:
        inputs = dict.fromkeys([*self.inputs, *arm.inputs])
        places = {"round": str(round_)}
        places |= {name: f"{{{name_in(name, of, round_)}}}" for name, of in self.hashed.items()}
        if reference is not None and _REFERENCE in inputs:
            places[_REFERENCE] = f"{{{reference}}}"
            inputs = {(reference if name == _REFERENCE else name): None for name in inputs}
        fields = fill({**self.fields, **arm.fields}, places)
        return Method(f"{arm.title}, round {round_}", arm.configs, fields, list(inputs))


def method_name(arm: str, round_: int) -> str:
    """The method of a flywheel's table that is ``arm`` in ``round_``."""
    return f"{arm}_{round_}"
