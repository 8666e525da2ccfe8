"""``run.json``: what is needed to say where a run's numbers come from."""

import json
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from remit_lit.files import make_directory, replaced, sync_files, write_whole
from remit_lit.runs.folder import POLICY, RECORD
from remit_lit.runs.metrics import write_tidy_metrics
from remit_lit.runs.provenance import now, provenance
from remit_lit.training.callbacks import mid_training
from remit_lit.training.costs import count_cost


class RunRecord(pl.Callback):
    """Write versions, git revision, data fingerprints, command and cost; and the policy's config and tokenizer."""

    def __init__(self) -> None:
        self._earlier_seconds = 0.0
        self._started: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """Seconds of training so far, which the part after this checkpoint goes on from."""
        return {"seconds": self._seconds_so_far}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._earlier_seconds = state_dict["seconds"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        module = mid_training(pl_module)
        assert module.policy is not None and module.tokenizer is not None
        run, manifest = Path(trainer.default_root_dir), module.data.manifest
        packages = ("torch", "lightning", "transformers", "tokenizers", "datasets", "torchdata", "jsonargparse")
        record = {
            **provenance(packages),
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
        make_directory(run)
        write_whole(run / RECORD, json.dumps(record, indent=2) + "\n")
        with replaced(run / POLICY) as aside:
            module.policy.config.save_pretrained(aside)
            module.tokenizer.save_pretrained(aside)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._earlier_seconds, self._started = self._seconds_so_far, None

    @property
    def _seconds_so_far(self) -> float:
        return self._earlier_seconds + (0.0 if self._started is None else time.perf_counter() - self._started)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the last validation figures, what the run cost, and when it ended."""
        path = Path(trainer.default_root_dir, RECORD)
        if not trainer.is_global_zero or not path.exists():
            return
        results = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith(("val/", "lab/"))}
        module = mid_training(pl_module)
        assert module.policy is not None
        tokens = trainer.global_step * module.tokens_per_step
        cost = count_cost(module.frozen, module.policy, module.data, tokens, self._seconds_so_far)
        ended = now()
        facts = {"ended_at_step": trainer.global_step, "results": results, "cost": asdict(cost), "ended": ended}
        record = json.loads(path.read_text()) | facts
        write_tidy_metrics(path.parent)
        sync_files(path.parent)  # a run that has ended is never done again, so its metrics are lost for good or there
        write_whole(path, json.dumps(record, indent=2) + "\n")


def _is_plain(value: object) -> bool:
    return isinstance(value, (bool, int, float, str))
