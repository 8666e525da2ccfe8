"""``fit``, ``validate``, ``test`` and ``estimate`` by LightningCLI: run folders, loggers and callbacks of every run."""

import os
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

# Imported so that configs find their classes by short names.
import remit_lit.data.datatrove_reader
import remit_lit.data.indexed_tokens
import remit_lit.data.lab_documents
import remit_lit.training.callbacks.in_loop_evaluation
import remit_lit.training.callbacks.lab_evaluation
import remit_lit.training.callbacks.lab_weights
import remit_lit.training.callbacks.policy_ema
import remit_lit.training.callbacks.stop_when_reached  # noqa: F401
from remit_lit.cli.dry_run import SHORT, dry_run
from remit_lit.cli.loggers import default_loggers, keep_metrics, log_hyperparameters
from remit_lit.cli.noise import silence_libraries
from remit_lit.cli.parser import Parser, config_files, refuse_unresolved
from remit_lit.errors import ConfigError
from remit_lit.files import flatten, make_directory, sync, write_whole
from remit_lit.report.report import write_report
from remit_lit.runs.checkpoint import read_facts
from remit_lit.runs.checkpoint_io import CheckpointFiles
from remit_lit.runs.folder import CONFIG, MODEL, RECORD, REPORT
from remit_lit.runs.lock import SUFFIX, held
from remit_lit.runs.resume import find_checkpoint, has_ended, require_same_meaning
from remit_lit.training.callbacks import mid_training
from remit_lit.training.callbacks.checkpoints import Checkpoints
from remit_lit.training.callbacks.export_model import ExportModel
from remit_lit.training.callbacks.first_validation import FirstValidation
from remit_lit.training.callbacks.preemption import Preemption
from remit_lit.training.callbacks.progress_lines import ProgressLines
from remit_lit.training.callbacks.run_record import RunRecord
from remit_lit.training.callbacks.run_summary import RunSummary
from remit_lit.training.callbacks.step_bar import with_step_bar
from remit_lit.training.callbacks.throughput import Throughput
from remit_lit.training.callbacks.token_weights import TokenWeights
from remit_lit.training.callbacks.watchdog import Watchdog
from remit_lit.training.callbacks.weight_statistics import WeightStatistics
from remit_lit.training.datamodule import PackedData
from remit_lit.training.engines import ZeRO, check_engine, check_precision, check_strategy
from remit_lit.training.module import MidTrainingModule


def run_trainer(verb: str, arguments: Sequence[str]) -> None:
    """Run ``fit``, ``validate`` or ``test`` with a command line's arguments."""
    TrainerCLI.verb = verb
    start(TrainerCLI, [verb, *arguments], "python -m remit_lit")


def changed_fields(parser: LightningArgumentParser, config: Namespace) -> dict[str, Any]:
    """The fields of a config that differ from their defaults, by dotted name."""
    return dict(flatten(yaml.safe_load(parser.dump(config, skip_none=False, skip_default=True)) or {}))


def start(cli: type["TrainerCLI"], arguments: Sequence[str], prog: str, **options: Any) -> "TrainerCLI | None":
    """Have LightningCLI parse a command line of ``fit`` and do what ``cli`` does; None where nothing was left to do."""
    if "CROSS_RANK" in os.environ:  # as DeepSpeed's launcher calls it
        os.environ.setdefault("NODE_RANK", os.environ["CROSS_RANK"])
    silence_libraries()
    cli.default_run_dir = _default_run_dir(arguments)
    try:
        with ExitStack() as cli.holding:
            return cli(
                MidTrainingModule,
                PackedData,
                args=list(arguments),
                seed_everything_default=0,
                auto_configure_optimizers=False,
                parser_class=_Parser,
                save_config_callback=_SaveConfig,
                parser_kwargs={"parser_mode": "omegaconf", "prog": prog},
                trainer_defaults={
                    # One run is one epoch, whose length the sampler knows from the horizon.
                    "max_epochs": 1,
                    # The figures before training come from a whole validation pass.
                    "num_sanity_val_steps": -1,
                    "use_distributed_sampler": False,
                    "log_every_n_steps": 10,
                    "callbacks": [
                        *(FirstValidation(), WeightStatistics(), TokenWeights(), RunRecord()),
                        *(ExportModel(), RunSummary(), Preemption()),
                    ],
                },
                **options,
            )
    except _DryRun as planned:
        dry_run(arguments, str(planned))
    except _Ended as run:
        rank_zero_info(f"ckpt_path: the run in {run} has finished; its model is {run}/{MODEL}")
    return None


def _default_run_dir(arguments: Sequence[str]) -> str:
    """``runs/`` and the names of the config files, joined: an experiment and its overlays."""
    return str(Path("runs", "-".join(Path(name).stem for name in config_files(arguments)) or "run"))


class _DryRun(Exception):  # noqa: N818
    """The config was read; its run_dir."""


class _Ended(Exception):  # noqa: N818
    """There is nothing to go on with; the run_dir."""


class _Parser(Parser, LightningArgumentParser):
    """LightningCLI's parser with the errors of the other verbs."""


class TrainerCLI(LightningCLI):
    """A run in its folder, from the fields of ``fit``, ``validate`` or ``test``."""

    default_run_dir = "runs/run"
    verb = "fit"
    checkpoint: Path | None = None
    holding: ExitStack

    @classmethod
    def subcommands(cls) -> dict[str, set[str]]:
        """The one verb that runs: the fields of each more would take a tenth of a second to collect."""
        return {cls.verb: LightningCLI.subcommands()[cls.verb]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--run_dir",
            type=str,
            default=self.default_run_dir,
            help="folder of this run; by default runs/ and the configs' names",
        )
        parser.add_argument("--overwrite", type=bool, default=False, help="replace an earlier run in run_dir")
        parser.add_argument(
            "--dry_run",
            type=bool,
            default=False,
            help="train one step, write a checkpoint, resume from it for one more step, and keep nothing",
        )
        parser.add_argument(
            "--report", type=bool, default=True, help="write report.html, a page of what was logged, at the end"
        )
        parser.add_argument(
            "--allow_change",
            type=str | list[str],
            default=[],
            help="with ckpt_path: fields, or whole sections, that may differ from the run's earlier config",
        )
        parser.add_lightning_class_args(Checkpoints, "checkpoint")
        parser.add_lightning_class_args(ProgressLines, "progress_lines")
        parser.add_lightning_class_args(Throughput, "throughput")
        parser.add_lightning_class_args(Watchdog, "watchdog")
        parser.link_arguments("run_dir", "trainer.default_root_dir")

    @property
    def fields(self) -> Namespace:
        """The config."""
        return self.config if self.subcommand is None else self.config[self.subcommand]

    def before_instantiate_classes(self) -> None:
        config = self.fields
        refuse_unresolved(config)
        check_precision(config.trainer.precision)
        if config.dry_run:
            raise _DryRun(config.run_dir)
        if self.subcommand == "fit":
            self.holding.enter_context(held("run_dir", config.run_dir))
        earlier, resume_from = Path(config.run_dir, RECORD).exists(), config.ckpt_path
        if self.subcommand == "fit" and earlier and resume_from is None and not config.overwrite:
            raise ConfigError(
                f"run_dir: {config.run_dir} holds an earlier run; continue it with --resume=true, replace it with "
                "--overwrite=true, or give another --run_dir"
            )
        self.checkpoint = find_checkpoint(resume_from, config.run_dir) if resume_from is not None else None
        config.ckpt_path = None if self.checkpoint is None else str(self.checkpoint)
        ended = self.checkpoint is None and resume_from is not None and has_ended(Path(config.run_dir))
        if self.subcommand == "fit" and (self.checkpoint is not None or ended):
            allowed = [config.allow_change] if isinstance(config.allow_change, str) else config.allow_change
            dumped = yaml.safe_load(self._parser(self.subcommand).dump(config, skip_none=False))
            earlier_run = Path(config.run_dir) if self.checkpoint is None else self.checkpoint.parent.parent
            require_same_meaning(earlier_run, dumped, allowed)
        if self.subcommand == "fit" and ended:
            raise _Ended(config.run_dir)
        if self.checkpoint is None and resume_from is not None:
            rank_zero_info(f"ckpt_path: {config.run_dir} has no checkpoint yet; the run starts from the beginning")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer; where the config names no logger, a fit logs to CSV and TensorBoard in the run folder."""
        config = self.fields
        if self.checkpoint is not None and self.subcommand == "fit":
            keep_metrics(Path(config.run_dir))
        if config.trainer.logger in (None, True):
            kwargs["logger"] = default_loggers(config.run_dir) if self.subcommand == "fit" else False
        given = config.trainer
        if given.enable_progress_bar is not False:
            kwargs["callbacks"] = with_step_bar(self._given_callbacks)
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except MisconfigurationException as error:
            raise ConfigError(
                f"trainer: got accelerator={given.accelerator}, devices={given.devices}; this machine cannot ({error})"
            ) from error
        except (ValueError, TypeError) as error:
            named = re.search(r"`(\w+)[=`]", str(error))
            field = f"trainer.{named[1]}" if named and named[1] in given else "trainer"
            raise ConfigError(f"{field}: Lightning refuses this value ({error})") from error
        cores = len(os.sched_getaffinity(0))
        if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > cores:
            rank_zero_warn(
                f"trainer.devices: {trainer.num_devices} processes share {cores} CPU cores, so that even their start "
                f"takes long; give at most {cores}"
            )
        check_strategy(trainer)
        if SHORT in os.environ:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                getattr(callback, "shorten", lambda: None)()
        if not isinstance(trainer.strategy, ZeRO):
            trainer.strategy.checkpoint_io = CheckpointFiles()
        if self.checkpoint is not None:
            check_engine(trainer, read_facts(self.checkpoint))
        return trainer

    @property
    def _given_callbacks(self) -> list[Callback]:
        given = self._get(self.config_init, "trainer").callbacks
        return list(given) if isinstance(given, (list, tuple)) else [] if given is None else [given]

    def before_fit(self) -> None:
        """A run that goes on has optimizer states of its own: those that it began with need not be there any more."""
        if self.checkpoint is not None:
            self.model.optimizer_states = None

    def after_fit(self) -> None:
        """Print the summary, now that the progress bar is gone."""
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            summaries = (c for c in self.trainer.callbacks if isinstance(c, RunSummary))  # type: ignore[attr-defined]
            for summary in summaries:
                summary.print(self.trainer, self.model)
            if self.fields.report:
                self._write_report(Path(self.trainer.default_root_dir))

    def _write_report(self, run_dir: Path) -> None:
        """The run has ended well, whatever the disk makes of its page."""
        changed = changed_fields(self._parser("fit"), self.fields)
        try:
            print(f"report: {write_report([run_dir], run_dir / REPORT, lambda _: changed)}")
        except OSError as error:
            rank_zero_warn(
                f"report: {run_dir / REPORT} was not written ({error}); `remit_lit report {run_dir}` does it"
            )


class _SaveConfig(SaveConfigCallback):
    """Write the resolved config of a ``fit`` to its folder; an earlier run there goes only once this one can start."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "save_to_log_dir": False})
        self._started = time.time()

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        mid_training(pl_module).check(stage)
        run_dir = Path(trainer.default_root_dir)
        if self.config.ckpt_path is None and (run_dir / RECORD).exists():
            self._clear(run_dir)
        make_directory(run_dir)
        write_whole(run_dir / CONFIG, self.parser.dump(self.config, skip_none=False))
        sync(run_dir.parent)  # the loggers may have made the folder
        log_hyperparameters(trainer.loggers, changed_fields(self.parser, self.config))

    def _clear(self, run_dir: Path) -> None:
        """Remove what is older than this run; its own loggers have opened their files already."""
        for path in run_dir.iterdir():
            if path.stat().st_mtime < self._started and path.suffix != SUFFIX:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
