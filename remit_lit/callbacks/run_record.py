"""``run.json``: what is needed to say where a run's numbers come from."""

import datetime
import importlib.metadata
import json
import platform
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl

from remit_lit import __version__
from remit_lit.callbacks import mid_training

RECORD = "run.json"
# The policy's config and tokenizer, with which a checkpoint becomes a Hugging Face model.
POLICY = "policy"


class RunRecord(pl.Callback):
    """Write versions, git revision, data fingerprints and command; and the policy's config and tokenizer."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        module = mid_training(pl_module)
        assert module.policy is not None and module.tokenizer is not None
        run, manifest = Path(trainer.default_root_dir), module.data.manifest
        packages = ("torch", "lightning", "transformers", "tokenizers", "datasets", "torchdata", "jsonargparse")
        record = {
            "command": sys.argv,
            "versions": {
                "remit_lit": __version__,
                "python": platform.python_version(),
                **{name: importlib.metadata.version(name) for name in packages},
            },
            "git_revision": _git_revision(),
            "machine": {"platform": platform.platform(), "device": str(module.device), "ranks": trainer.world_size},
            "data": {"rows": manifest.fingerprints, "tokenizer": manifest.tokenizer, "counts": manifest.counts},
            "data_seed": module.data.seed,
            "policy": module.spec.path or "a fresh model",
            "reference": str(module.reference) if module.reference in module.references else "none",
            "weighting": type(module.weighting).__name__,
            "weighting_settings": {name: value for name, value in vars(module.weighting).items() if _is_plain(value)},
            "steps": module.num_steps,
            "tokens_per_step": module.tokens_per_step,
        }
        run.mkdir(parents=True, exist_ok=True)
        (run / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        module.policy.config.save_pretrained(run / POLICY)
        module.tokenizer.save_pretrained(run / POLICY)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the last validation figures and when the run ended."""
        path = Path(trainer.default_root_dir, RECORD)
        if not trainer.is_global_zero or not path.exists():
            return
        results = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith(("val/", "lab/"))}
        ended = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        record = json.loads(path.read_text()) | {"results": results, "ended": ended}
        path.write_text(json.dumps(record, indent=2) + "\n")


def _is_plain(value: object) -> bool:
    return isinstance(value, (bool, int, float, str))


def _git_revision() -> str | None:
    """The revision of the working directory's repository, with ``-dirty`` where files differ; None outside one."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
