"""A run folder: config, record, metrics, checkpoints, and the model as a Hugging Face directory."""

import csv
import io
import json
import math
import platform
import shutil
import time
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from remit_lit.errors import ConfigError, NonFiniteError
from remit_lit.files import make_directory, sync, sync_all, write_whole
from remit_lit.models.export import put_model_in_place
from remit_lit.runs.folder import CHECKPOINTS, CONFIG, METRICS, MODEL, RECORD, TIDY_METRICS, global_rank
from remit_lit.runs.metrics import write_tidy_metrics
from remit_lit.runs.provenance import provenance
from remit_lit.runs.ranks import on_all, on_first
from remit_lit.runs.resume import has_ended

_STATE = "trainer_state.json"
_WHOLE = "whole"  # marks a checkpoint all of which is on the disk; transformers waits for none of its files
_PRINTED = (
    "loss",
    "mean_token_accuracy",
    "rewards/accuracies",
    "reward",
    "reward_std",
    "completions/mean_length",
    "kl",
    "frac_reward_zero_std",
    "reward_failures",
)
_PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "trl", "accelerate")


class RunFolder:
    """The folder of one run, which rank 0 alone reads and writes; the others hear from it what they need.

    Args:
        directory: the run's folder.
        overwrite: replace an earlier run there.
        resume: continue an earlier run there from its newest checkpoint, or start from scratch if there is none.

    Raises:
        ConfigError: there is an earlier run, and neither or both of the two are set.
    """

    def __init__(self, directory: str, overwrite: bool, resume: bool) -> None:
        self.path = Path(directory)
        if overwrite and resume:
            raise ConfigError("resume: cannot be true together with overwrite; give one of them")
        self.resume = resume
        self.checkpoint, self.has_ended = on_first(lambda: self._look(overwrite))

    def _look(self, overwrite: bool) -> tuple[Path | None, bool]:
        """The checkpoint to go on from, and whether this resumes a run that has already finished."""
        if not self.resume:
            if (self.path / RECORD).exists() and not overwrite:
                raise ConfigError(
                    f"run_dir: {self.path} holds an earlier run; continue it with --resume=true, replace it with "
                    "--overwrite=true, or give another --run_dir"
                )
            return None, False
        return newest_checkpoint(self.path / CHECKPOINTS), has_ended(self.path)

    @property
    def model(self) -> Path:
        """The directory of the model."""
        return self.path / MODEL

    @property
    def checkpoints(self) -> Path:
        """Directory of TRL's checkpoints."""
        return self.path / CHECKPOINTS

    def require_same(self, config: dict[str, Any], facts: dict[str, Any], data: str) -> None:
        """Refuse to resume with a config, a model or data other than those that the run began with.

        Args:
            config: the run's resolved config.
            facts: stage, model, seed and ranks as the record has them.
            data: fingerprint of the examples.

        Raises:
            ConfigError: naming what differs.
        """
        if self.resume:
            on_first(lambda: self._require_same(config, facts, data))

    def _require_same(self, config: dict[str, Any], facts: dict[str, Any], data: str) -> None:
        record = self.record
        if not record or not (self.path / CONFIG).exists():
            return
        before = yaml.safe_load((self.path / CONFIG).read_text())
        changed = [name for name in config if name != "run_dir" and before.get(name) != config[name]]
        known = {"ranks": 1, **record}  # which records of earlier versions do not say
        changed += [name for name, value in facts.items() if known.get(name) != value]
        if changed:
            names = ", ".join(dict.fromkeys(changed))  # config and record both have the seed
            raise ConfigError(
                f"resume: changed since the run in {self.path} began: {names}; undo the change, or start a new run"
            )
        if record["data"]["fingerprint"] != data:
            raise ConfigError(
                f"resume: the data differ from those that the run in {self.path} began with; restore them, or start a "
                "new run"
            )

    def begin(self, config: dict[str, Any], facts: dict[str, Any]) -> None:
        """Write config and record; an earlier run is removed unless this one continues it."""
        on_first(lambda: self._begin(config, facts))

    def _begin(self, config: dict[str, Any], facts: dict[str, Any]) -> None:
        if self.checkpoint is None and self.path.exists():
            for name in (CONFIG, RECORD, METRICS, TIDY_METRICS):
                (self.path / name).unlink(missing_ok=True)
            for name in (CHECKPOINTS, MODEL):
                shutil.rmtree(self.path / name, ignore_errors=True)
            for events in self.path.glob("events.out.tfevents.*"):
                events.unlink()
        make_directory(self.path)
        write_whole(self.path / CONFIG, yaml.safe_dump(config, sort_keys=False))
        earlier = self.record if self.checkpoint is not None else {}
        self.write({**earlier, **provenance(_PACKAGES), "machine": {"platform": platform.platform()}, **facts})

    @property
    def record(self) -> dict[str, Any]:
        """The content of run.json; empty before there is one."""
        path = self.path / RECORD
        content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return content

    def has(self, key: str) -> bool:
        """Whether run.json has an entry, on every rank."""
        return on_first(lambda: key in self.record)

    def write(self, more: dict[str, Any]) -> None:
        """Add to run.json; an interruption leaves it as it was."""
        if global_rank():
            return
        write_whole(self.path / RECORD, json.dumps(self.record | more, indent=2) + "\n")

    def report(self, when: str, samples: int, metrics: dict[str, float], solved: list[int]) -> None:
        """Print the metrics on dev problems, and add them to run.json.

        Args:
            when: ``before`` or ``after``, the key in run.json.
            samples: answers to each problem.
            metrics: by name.
            solved: how many answers to each problem are right, [problems].
        """
        counts = self.record.get("solved", {}) | {"samples": samples, when: solved}
        self.write({when: metrics, "solved": counts})
        if not global_rank():
            print(f"{when}: {', '.join(f'{name} {value:.4g}' for name, value in metrics.items())}", flush=True)

    def save_model(self, trainer: Trainer, title: str) -> Path:
        """Write ``model`` with tokenizer and a card that quotes record and config; it appears once it is complete."""
        aside = self.path / f".{MODEL}"
        trainer.save_model(str(aside))
        on_first(lambda: self._put_in_place(aside, title))
        return self.model

    def _put_in_place(self, aside: Path, title: str) -> None:
        (aside / "training_args.bin").unlink(missing_ok=True)  # a pickle; config.yaml says the same
        (aside / "README.md").write_text(_card(title, self.record, (self.path / CONFIG).read_text()))
        put_model_in_place(aside, self.model)


class RunLog(TrainerCallback):
    """Write metrics.csv, its tidy form and the seconds trained so far, with each checkpoint and at the end.

    The trainer's own state has the log up to each checkpoint, so nothing is written twice after a resume.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._earlier = float(folder.record.get("seconds", 0.0)) if folder.checkpoint else 0.0
        self._started = time.perf_counter()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._started = time.perf_counter()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Print the step's figures; raise NonFiniteError for a loss or gradient that is NaN or infinite."""
        logs: dict[str, Any] = kwargs["logs"]
        for name in ("loss", "grad_norm"):
            if name in logs and not math.isfinite(float(logs[name])):
                raise NonFiniteError(f"step {state.global_step}: {name} is {logs[name]}; lower training.learning_rate")
        figures = [f"{name} {logs[name]:.4g}" for name in _PRINTED if logs.get(name) is not None]
        if figures and not global_rank():
            print(f"step {state.global_step} of {state.max_steps}: {', '.join(figures)}", flush=True)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._write(state)
        on_all(lambda: None)  # each rank has written its random state
        on_first(lambda: mark_whole(self.folder.checkpoints / f"checkpoint-{state.global_step}"))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._write(state)

    def _write(self, state: TrainerState) -> None:
        if global_rank():
            return
        lines = state.log_history
        names = ["step", "epoch", *sorted({name for line in lines for name in line} - {"step", "epoch"})]
        stream = io.StringIO(newline="")
        table = csv.DictWriter(stream, names)
        table.writeheader()
        table.writerows(lines)
        write_whole(self.folder.path / METRICS, stream.getvalue())
        write_tidy_metrics(self.folder.path)
        self.folder.write({"seconds": self._earlier + time.perf_counter() - self._started})


def newest_checkpoint(directory: Path) -> Path | None:
    """The complete checkpoint with the most steps; one that a kill or a power cut left half-written is skipped."""
    complete = [path for path in directory.glob("checkpoint-*") if _steps(path).isdigit() and _is_complete(path)]
    return max(complete, key=lambda path: int(_steps(path)), default=None)


def mark_whole(checkpoint: Path) -> None:
    """Bring a checkpoint to the disk, and then say that it is there as a whole."""
    sync_all(checkpoint)
    sync(checkpoint.parent)
    sync(checkpoint.parent.parent)
    write_whole(checkpoint / _WHOLE, "")


def _steps(checkpoint: Path) -> str:
    return checkpoint.name.removeprefix("checkpoint-")


def _is_complete(checkpoint: Path) -> bool:
    if not (checkpoint / _WHOLE).exists():
        return False
    try:
        json.loads((checkpoint / _STATE).read_text())
    except (OSError, ValueError):
        return False
    return True


def _card(title: str, record: dict[str, Any], config: str) -> str:
    data = record["data"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    counts = ", ".join(f"{count} {reason}" for reason, count in record["dropped"].items())
    results = {
        **record.get("before", {}),
        **{f"{name} after": value for name, value in record.get("after", {}).items()},
    }
    figures = "\n".join(f"- {name}: {value:.4f}" for name, value in results.items()) or "No dev problems were measured."
    return (
        f"---\nlibrary_name: transformers\ntags: [post-training, remit_lit]\n---\n\n# Post-trained with {title}\n\n"
        f"- start: `{record['model']['path']}`\n"
        f"- data: {data['used']} of {data['examples']} examples, fingerprint `{data['fingerprint']}`\n"
        f"- examples left out: {counts}\n\n"
        f"## Results before and after\n\n{figures}\n\n"
        f"## Versions\n\n{versions}; git {record['git_revision']}\n\n## Config\n\n```yaml\n{config}```\n"
    )
