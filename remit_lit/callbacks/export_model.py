"""The trained policy as a Hugging Face directory in the run folder."""

from pathlib import Path

import lightning.pytorch as pl

from remit_lit.callbacks import mid_training
from remit_lit.export import write_model

MODEL = "model"


class ExportModel(pl.Callback):
    """Write ``run_dir/model`` when training ends."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        module = mid_training(pl_module)
        assert module.policy is not None and module.tokenizer is not None
        run = Path(trainer.default_root_dir)
        write_model(module.policy, module.tokenizer, run / MODEL, run)
