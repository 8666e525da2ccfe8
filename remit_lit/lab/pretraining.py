"""The pipeline's stages on packed rows, by the kit's own ``prepare`` and ``MidTrainingModule``."""

from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import torch
from transformers import PreTrainedModel

from remit_lit.data.datamodule import PackedData
from remit_lit.data.settings import PrepareSettings
from remit_lit.lab.recipe import ROWS_PER_STEP, SEQUENCE_LENGTH, PretrainingStage
from remit_lit.models import ModelSpec
from remit_lit.module import MidTrainingModule
from remit_lit.schedules import Cosine, Horizon


def pretrain(policy: ModelSpec, tokenizer: Path, stage: PretrainingStage, rows: Path, seed: int) -> PreTrainedModel:
    """Train a policy on freshly prepared documents by next-token prediction, on the CPU.

    Args:
        policy: where the model starts.
        tokenizer: directory of the lab's tokenizer.
        stage: what to train on, and how.
        rows: directory to write the packed rows to.
        seed: of the documents, their order, and a fresh model's weights.
    """
    pl.seed_everything(seed, verbose=False)
    settings = PrepareSettings(
        tokenizer=str(tokenizer),
        sources=stage.sources(seed),
        sequence_length=SEQUENCE_LENGTH,
        validation_share=0.0,
        seed=seed,
    )
    module = MidTrainingModule(
        policy=policy,
        optimizer=partial(torch.optim.AdamW, lr=stage.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
        horizon=Horizon(steps=stage.steps),
        schedule=Cosine(warmup_steps=stage.warmup_steps, final=stage.final),
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        gradient_clip_val=1.0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=rows.parent,
    )
    trainer.fit(module, PackedData(str(rows), ROWS_PER_STEP, settings, num_workers=0, seed=seed))
    assert module.policy is not None
    return module.policy.eval()
