"""The trained policy as a Hugging Face directory in the run folder."""

from pathlib import Path

import lightning.pytorch as pl

from remit_lit.models.export import write_model
from remit_lit.models.shards import full_state_dict
from remit_lit.runs.folder import MODEL
from remit_lit.training.callbacks import mid_training


class ExportModel(pl.Callback):
    """Write ``run_dir/model`` when training ends."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        policy = mid_training(pl_module).policy
        assert policy is not None
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        state, run = full_state_dict(policy, trainer.strategy), Path(trainer.default_root_dir)
        if state is not None:
            write_model(state, run / MODEL, run)
        trainer.strategy.barrier()
