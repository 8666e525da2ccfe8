"""The fields of ``fit`` where nothing is trained: ``estimate``, and what a run's saved config changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from remit_lit.cli.training import TrainerCLI, changed_fields, start
from remit_lit.data.storage import exists, located

if TYPE_CHECKING:
    from remit_lit.estimate.run import PlannedRun


def run_estimate(verb: str, arguments: Sequence[str]) -> None:
    """Print what ``fit`` would take, with the fields of a command line of ``fit`` and those of ``estimate``."""
    start(_Estimate, arguments, f"python -m remit_lit {verb}", run=False)


def changed_settings(config: Path) -> dict[str, Any]:
    """Those of a config that ``fit`` saved which differ from their defaults, by dotted name.

    Raises:
        ConfigError: it has a field that is not known, as one of another version may have.
    """
    saved = read_fields([f"--config={config}"])
    return {} if saved is None else changed_fields(saved.parser, saved.config)


def read_fields(arguments: Sequence[str]) -> TrainerCLI | None:
    """The fields of a command line of ``fit``; nothing is built, and nothing need be there.

    Raises:
        ConfigError: a field is not known, or has a value that is none of its type.
    """
    return start(_Saved, arguments, "python -m remit_lit fit", run=False)


def planned_run(arguments: Sequence[str]) -> "PlannedRun":
    """The run that ``fit`` would make of a command line's arguments, as ``estimate`` sees it; nothing is loaded."""
    planned = start(_Planned, arguments, "python -m remit_lit fit", run=False)
    assert isinstance(planned, _Planned)
    return planned.planned


class _Unrun(TrainerCLI):
    """Has the fields of ``fit``, and builds no trainer, which would look for the run's devices."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_method_arguments(Trainer, "fit", skip=set(LightningCLI.subcommands()["fit"]))


class _Saved(_Unrun):
    """Reads the config of a run."""

    def _set_seed(self) -> None:
        """Nothing is to be drawn."""

    def before_instantiate_classes(self) -> None:
        """Nothing is to be run: what is there already is no mistake."""

    def instantiate_classes(self) -> None:
        """Nothing is to be built."""


class _Built(_Unrun):
    """Builds the module and the data as ``fit`` does."""

    def _instantiated(self) -> Namespace:
        """Others are put in the place of the texts that rows are to be made of, which need not be there yet."""
        prepare = self.config.data.prepare
        if prepare is not None and not exists(located(self.config.data.rows)):
            stand_in = {"class_path": "remit_lit.data.lab_documents.LabDocuments"}
            arguments = Namespace(kind="web", documents=1, seed=0, split="train")
            prepare.sources = {name: Namespace(**stand_in, init_args=arguments) for name in prepare.sources}
        built: Namespace = self.parser.instantiate_classes(self.config)
        return built


class _Planned(_Built):
    """Keeps the run that they plan."""

    planned: "PlannedRun"

    def instantiate_classes(self) -> None:
        from remit_lit.estimate.run import PlannedRun  # only here: `fit` should not wait for it

        config = self._instantiated()
        self.planned = PlannedRun(config.model, config.data, config.trainer)


class _Estimate(_Built):
    """Prints what they would take."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        from remit_lit.estimate.report import estimate  # only here: `fit` should not wait for it

        super().add_arguments_to_parser(parser)
        skip: set[str | int] = {"module", "data", "trainer"}
        self.estimate, self.numbers = estimate, parser.add_function_arguments(estimate, skip=skip)

    def instantiate_classes(self) -> None:
        config = self._instantiated()
        numbers = {name: config[name] for name in self.numbers}
        self.estimate(config.model, config.data, config.trainer, **numbers)
