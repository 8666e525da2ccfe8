"""``PackedData``: prepared rows to batches for Lightning, in an order that a seed fixes across world sizes."""

import math
import signal
import sys
from typing import Any, Protocol

import lightning.pytorch as pl
import numpy as np
import torch
from torchdata.stateful_dataloader import StatefulDataLoader

from remit_lit.data.batch import Batch
from remit_lit.data.manifest import Manifest, read_manifest, require_settings
from remit_lit.data.repetitions import RepetitionFilter
from remit_lit.data.rows import Collate, PackedRows, RankShare, ShuffledBatches, open_rows
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.storage import exists, located, require_local
from remit_lit.errors import ConfigError, require_at_least
from remit_lit.files import near_path
from remit_lit.reference.choice import Choice, choose
from remit_lit.reference.reference import Reference
from remit_lit.reference.subsets import read_subset
from remit_lit.weighting import TokenWeighting


class TrainsOnRows(Protocol):
    """What the data needs to know of the module that trains on it."""

    @property
    def columns(self) -> list[str]:
        """Names of the score columns that training reads."""

    @property
    def weighting(self) -> TokenWeighting:
        """The strategy; one that chooses rows accepts only a subset that it chose itself."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the run."""

    @property
    def base(self) -> Reference | None:
        """The model before mid-training, which a strategy that chooses rows compares with."""

    @property
    def reference(self) -> Reference | None:
        """The RL-tuned model."""

    @property
    def device(self) -> torch.device:
        """Where live models run."""

    def on_rows_chosen(self, choice: Choice | None) -> None:
        """Called once the strategy has chosen the rows to train on; None for all."""


def _outlive_preemption(_: int) -> None:
    """Of a worker: a scheduler signals it too, and the run that saves and leaves on these signals needs it until then.

    Where that run leaves amid a batch, its end of the connection breaks: no error that anyone should read.
    """
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    tell = sys.excepthook

    def tell_unless_alone(kind: type[BaseException], *error: Any) -> None:
        if not issubclass(kind, ConnectionError):
            tell(kind, *error)

    sys.excepthook = tell_unless_alone


class PackedData(pl.LightningDataModule):
    """Training and validation batches from packed rows.

    Args:
        rows: directory of prepared rows, or its URL on an object storage, e.g. s3://bucket/rows (extra s3). Files of a
            URL are copied to this machine when first read, see docs/guides/scale.md.
        batch_size: rows of a micro-batch on each device; as many as fit its memory. For larger steps accumulate with
            trainer.accumulate_grad_batches.
        prepare: how to make the rows where the directory does not exist yet; where it does, its settings must agree.
        subset: name of a subset that `select` wrote, to train on its rows only; null is all rows, or those that the
            strategy chooses.
        num_workers: processes that load batches; 0 loads them in the training process. One keeps up unless rows come
            from a slow disk.
        repeat_chosen: go over rows that a strategy or a subset chose more often than training on all rows would; false
            refuses that, since a method would then see fewer different tokens than those it is compared with.
        document_attention: documents in a row do not see each other and positions start again at each. Give the setting
            of the model's pre-training: true for SmolLM3, false for OLMo 2.
        seed: of the order of rows, which is the same for any number of devices. Change it to repeat a run in another
            order.
        validation_batch_size: rows at a time in validation on each device; null is batch_size. More may fit, as
            validation keeps no activations.
        mask_repetitions: leave rows out of the loss that repeat a few tokens over and over, as OLMo 2 does; null leaves
            out none.
    """

    def __init__(
        self,
        rows: str,
        batch_size: int,
        prepare: PrepareSettings | None = None,
        subset: str | None = None,
        num_workers: int = 1,
        document_attention: bool = True,
        seed: int = 0,
        validation_batch_size: int | None = None,
        repeat_chosen: bool = False,
        mask_repetitions: RepetitionFilter | None = None,
    ) -> None:
        super().__init__()
        for field, value, least in (
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
            ("validation_batch_size", batch_size if validation_batch_size is None else validation_batch_size, 1),
        ):
            require_at_least(f"data.{field}", value, least)
        self.rows_directory, self.settings, self.subset = located(rows), prepare, subset
        self.batch_size, self.validation_batch_size = batch_size, validation_batch_size or batch_size
        self.num_workers, self.document_attention, self.seed = num_workers, document_attention, seed
        self.repeat_chosen = repeat_chosen
        self.collate = Collate(document_attention, mask_repetitions)
        if prepare is not None:
            prepare.check()
            if exists(self.rows_directory):
                require_settings(self.rows_directory, prepare)
            else:
                require_local("data.rows", rows, "prepare rows on a disk and copy the directory to the storage")
                prepare.check_sources()
        elif not exists(self.rows_directory):
            raise ConfigError(
                f"data.rows: {rows} does not exist; {near_path(rows)}make it with "
                "`python -m remit_lit prepare`, or set data.prepare"
            )
        self.train_rows: PackedRows | None = None
        self._order: ShuffledBatches | None = None

    def prepare_data(self) -> None:
        """Once on each node: make missing rows."""
        from remit_lit.data.prepare import prepare  # as late as `datasets`, which it imports

        if self.settings is not None and not exists(self.rows_directory):
            try:
                prepare(self.rows_directory, self.settings)
            except ConfigError:
                if not self.rows_directory.exists():
                    raise
                require_settings(self.rows_directory, self.settings)  # of another run, made meanwhile

    @property
    def manifest(self) -> Manifest:
        """Facts of the rows."""
        return read_manifest(self.rows_directory)

    def setup(self, stage: str) -> None:
        """Open the rows; which columns are needed, the module knows."""
        if stage == "fit":
            self.train_rows = self.load_rows("train", self._module.columns)
            if self.subset is not None:
                weighting = self._module.weighting
                self.train_rows.selection = read_subset(self.rows_directory, "train", self.subset, weighting)

    def check_passes(self, weighting: TokenWeighting, rows_trained: int) -> None:
        """Refuse a choice of rows that would be repeated where all rows would not, and to repeat stages.

        Nothing is scored or loaded.

        Args:
            weighting: the run's strategy.
            rows_trained: rows of all steps and ranks.

        Raises:
            ConfigError: naming the rows kept and those needed, unless ``repeat_chosen``.
        """
        manifest = self.manifest
        all_rows = manifest.counts["train"]["rows"]
        if self.subset is None:
            what, kept = f"model.weighting: {type(weighting).__name__}", weighting.rows_kept(all_rows)
        else:
            what = f"data.subset: {self.subset!r}"
            kept = len(read_subset(self.rows_directory, "train", self.subset, weighting))
        if manifest.stages and rows_trained > kept:
            raise ConfigError(
                f"model.horizon: a run of {rows_trained} rows would begin again with the first stage of {kept} rows in "
                f"{len(manifest.stages)} stages; shorten it, or prepare longer stages"
            )
        different = min(all_rows, rows_trained)
        if kept >= different or self.repeat_chosen:
            return
        needed = math.ceil(different * all_rows / kept)
        raise ConfigError(
            f"{what} keeps {kept} of {all_rows} rows, so a run of {rows_trained} rows would go over them "
            f"{rows_trained / kept:.1f} times, where training on all rows sees {different} different ones; choose from "
            f"{needed} rows ({needed * manifest.sequence_length:,} tokens: data.prepare, its num_tokens or sources), "
            "shorten model.horizon, or allow it with data.repeat_chosen: true"
        )

    def load_rows(self, split: str, columns: list[str]) -> PackedRows:
        """The rows of a split with score columns, see :func:`remit_lit.data.rows.open_rows`."""
        return open_rows(self.rows_directory, split, columns, self.document_attention)

    @property
    def _module(self) -> TrainsOnRows:
        assert self.trainer is not None
        return self.trainer.lightning_module  # type: ignore[return-value]

    def train_dataloader(self) -> StatefulDataLoader:
        """As many batches as the horizon takes; one Lightning epoch is the whole run."""
        assert self.trainer is not None and self.train_rows is not None
        if self.subset is None:
            self.train_rows.selection = None  # the strategy chooses from all rows
            self.train_rows.selection = self._chosen_rows(self.train_rows)
        self._order = ShuffledBatches(
            len(self.train_rows),
            self.batch_size,
            self._module.num_steps * self.trainer.accumulate_grad_batches,
            self.seed,
            self.trainer.global_rank,
            self.trainer.world_size,
            self.stages_of(self.train_rows),
        )
        return self._loader(self.train_rows, batch_sampler=self._order)

    def stages_of(self, rows: PackedRows) -> tuple[int, ...]:
        """Of training rows, those kept of each stage; () where they are in none."""
        stages = self.manifest.stages
        if not stages or rows.selection is None:
            return stages
        return tuple(np.diff(np.searchsorted(rows.selection, [0, *np.cumsum(stages)])).tolist())

    def _chosen_rows(self, rows: PackedRows) -> np.ndarray | None:
        """Rows that the strategy chooses, ascending, int64 [kept]; None for all."""
        module = self._module
        if not module.weighting.selects_rows:
            return None
        assert module.base is not None and module.reference is not None
        choice = choose(
            module.weighting,
            module.base,
            module.reference,
            rows,
            self.manifest.sources["train"],
            self.collate,
            self.validation_batch_size,
            module.device,
        )
        module.on_rows_chosen(choice)
        return None if choice is None else choice.rows

    def train_batches(self, first: int, count: int) -> list[Batch]:
        """This rank's micro-batches of training from number ``first`` on.

        They are read beside the loader, so that its position, which a checkpoint keeps, stays as it is.
        """
        assert self.train_rows is not None and self._order is not None
        return [self.collate(self.train_rows.__getitems__(self._order[first + index])) for index in range(count)]

    def val_dataloader(self) -> StatefulDataLoader | list[StatefulDataLoader]:
        """The validation rows in order, every rank its share; no loader where there are none."""
        assert self.trainer is not None
        if "validation" not in self.manifest.fingerprints:
            return []
        rows = self.load_rows("validation", [])
        mine = RankShare(rows, self.trainer.global_rank, self.trainer.world_size)
        return self._loader(mine, batch_size=self.validation_batch_size)

    test_dataloader = val_dataloader

    def _loader(self, rows: PackedRows | RankShare, **options: object) -> StatefulDataLoader:
        return StatefulDataLoader(
            rows,
            collate_fn=self.collate,
            num_workers=self.num_workers,
            persistent_workers=False,
            worker_init_fn=_outlive_preemption,
            # Of its own, so that loading draws none of the numbers that a resumed run must draw again.
            generator=torch.Generator().manual_seed(self.seed),
            **options,
        )
