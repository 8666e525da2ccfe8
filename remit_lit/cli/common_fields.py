"""The fields that most people set, which ``--help`` shows; ``--help=all`` shows every field."""

_RUN = ("help", "config", "print_config", "run_dir", "seed_everything")
_MODEL = (
    "model.policy.path",
    "model.policy.revision",
    "model.weighting",
    "model.reference",
    "model.optimizer",
    "model.schedule",
    "model.horizon.steps",
    "model.horizon.tokens",
    "model.activation_checkpointing",
)
_DATA = ("data.rows", "data.batch_size", "data.prepare")
_TRAINER = ("trainer.devices", "trainer.precision", "trainer.accumulate_grad_batches")
_TRAINING = (
    "overwrite",
    "ckpt_path",
    "dry_run",
    "trainer.val_check_interval",
    "trainer.log_every_n_steps",
    "trainer.logger",
    "checkpoint.every_n_train_steps",
)
_NUMBERS = ("gpus", "gpu_memory", "flops_per_second", "mfu", "pipeline")

COMMON_FIELDS: dict[str, frozenset[str]] = {
    "fit": frozenset({*_RUN, *_MODEL, *_DATA, *_TRAINER, *_TRAINING}),
    "estimate": frozenset({*_RUN, *_MODEL, *_DATA, *_TRAINER, *_NUMBERS}),
}
"""By verb; of any other verb all fields are shown."""
